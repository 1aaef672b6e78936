/*
 * The peer of the Modbus benchmark: reads registers in a closed loop, as fast as libmodbus can.
 * usage: libmodbus_loop PORT REGISTERS; then per line "MILLISECONDS" on standard input one line "COUNT NANOSECONDS SUM".
 */
#include <inttypes.h>
#include <modbus.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        return 64;
    }
    int registers = atoi(argv[2]);
    modbus_t *client = modbus_new_tcp("127.0.0.1", atoi(argv[1]));
    uint16_t values[MODBUS_MAX_READ_REGISTERS];
    if (client == NULL || registers < 1 || registers > MODBUS_MAX_READ_REGISTERS || modbus_connect(client) != 0) {
        return 1;
    }
    modbus_set_slave(client, 1);
    long milliseconds;
    while (scanf("%ld", &milliseconds) == 1) {
        int64_t begin = now_ns(), end = begin + milliseconds * 1000000, now;
        uint64_t count = 0, sum = 0;
        do {
            if (modbus_read_registers(client, 0, registers, values) != registers) {
                return 1;
            }
            for (int i = 0; i < registers; i++) {
                sum += values[i];
            }
            count++;
            now = now_ns();
        } while (now < end);
        printf("%" PRIu64 " %" PRId64 " %" PRIu64 "\n", count, now - begin, sum);
        fflush(stdout);
    }
    return 0;
}
