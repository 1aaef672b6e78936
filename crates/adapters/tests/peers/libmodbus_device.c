/*
 * A Modbus device of libmodbus, one client at a time.
 *
 *   tcp PORT   Modbus TCP; PORT 0 picks a free one
 *   rtu        a serial line of 115200 baud without parity: two pseudo terminals joined
 *
 * Unit 17 holds float32 85.4 at holding register 1 and the numbers 1000 to 1245 from holding register 3 on, the numbers 7 to 16
 * in the input registers, and three coils and discrete inputs. The last two of the 250 holding registers count the requests for
 * holding registers, high word first.
 *
 * Prints `ready` and the port or the path of the client's end. Then a line for each function code it is asked for, when it is
 * asked for the first time: `function 3`. Ends when it is killed.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <modbus.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#define UNIT 17
#define NUMBERS 246
#define COUNTER 248

/* One pseudo terminal without line discipline: its end is the result, the path of the port is put into `path`. */
static int terminal(char *path, size_t size) {
    int end = posix_openpt(O_RDWR | O_NOCTTY);
    if (end < 0 || grantpt(end) != 0 || unlockpt(end) != 0 || ptsname_r(end, path, size) != 0) {
        perror("pseudo terminal");
        exit(1);
    }
    /* stays open: an end whose port nobody has open cannot be read */
    int port = open(path, O_RDWR | O_NOCTTY);
    struct termios raw;
    if (port < 0 || tcgetattr(port, &raw) != 0) {
        perror(path);
        exit(1);
    }
    cfmakeraw(&raw);
    tcsetattr(port, TCSANOW, &raw);
    return end;
}

static void hand_on(int from, int to) {
    char bytes[512];
    ssize_t count = read(from, bytes, sizeof bytes);
    for (ssize_t done = 0; done < count;) {
        ssize_t written = write(to, bytes + done, (size_t)(count - done));
        if (written <= 0) {
            exit(1);
        }
        done += written;
    }
}

/* Joins two terminals in a process of its own that ends with this one. */
static void line(char *ours, char *theirs, size_t size) {
    int here = terminal(ours, size), there = terminal(theirs, size);
    if (fork() != 0) {
        return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct pollfd ends[2] = {{.fd = here, .events = POLLIN}, {.fd = there, .events = POLLIN}};
    while (poll(ends, 2, -1) > 0) {
        if (ends[0].revents & POLLIN) {
            hand_on(here, there);
        }
        if (ends[1].revents & POLLIN) {
            hand_on(there, here);
        }
    }
    exit(0);
}

static modbus_mapping_t *registers(void) {
    modbus_mapping_t *map = modbus_mapping_new(3, 3, COUNTER + 2, 10);
    if (map == NULL) {
        exit(1);
    }
    map->tab_registers[0] = 0x42AA; /* 85.4 */
    map->tab_registers[1] = 0xCCCD;
    for (int i = 0; i < NUMBERS; i++) {
        map->tab_registers[2 + i] = (uint16_t)(1000 + i);
    }
    for (int i = 0; i < 10; i++) {
        map->tab_input_registers[i] = (uint16_t)(7 + i);
    }
    map->tab_input_bits[0] = map->tab_input_bits[2] = 1;
    map->tab_bits[1] = 1;
    return map;
}

/* Answers until the client is gone. */
static void serve(modbus_t *device, modbus_mapping_t *map) {
    static bool asked[256];
    static uint32_t holding;
    uint8_t query[MODBUS_MAX_ADU_LENGTH];
    int place = modbus_get_header_length(device);
    for (;;) {
        int received = modbus_receive(device, query);
        if (received < 0) {
            return;
        }
        if (received == 0) {
            continue; /* meant for another unit of the line */
        }
        uint8_t function = query[place];
        if (!asked[function]) {
            asked[function] = true;
            printf("function %d\n", function);
            fflush(stdout);
        }
        if (function == MODBUS_FC_READ_HOLDING_REGISTERS) {
            holding++;
            map->tab_registers[COUNTER] = (uint16_t)(holding >> 16);
            map->tab_registers[COUNTER + 1] = (uint16_t)holding;
        }
        if (modbus_reply(device, query, received, map) < 0) {
            return;
        }
    }
}

int main(int count, char **arguments) {
    bool serial = count == 2 && strcmp(arguments[1], "rtu") == 0;
    if (!serial && (count != 3 || strcmp(arguments[1], "tcp") != 0)) {
        fprintf(stderr, "usage: %s tcp PORT | rtu\n", arguments[0]);
        return 64;
    }
    modbus_mapping_t *map = registers();
    if (serial) {
        char ours[64], theirs[64];
        line(ours, theirs, sizeof ours);
        modbus_t *device = modbus_new_rtu(ours, 115200, 'N', 8, 1);
        if (device == NULL || modbus_set_slave(device, UNIT) != 0 || modbus_connect(device) != 0) {
            perror("serial line");
            return 1;
        }
        printf("ready %s\n", theirs);
        fflush(stdout);
        for (;;) {
            serve(device, map); /* noise ends nothing */
            modbus_flush(device);
        }
    }
    modbus_t *device = modbus_new_tcp("127.0.0.1", atoi(arguments[2]));
    int listener = device == NULL ? -1 : modbus_tcp_listen(device, 1);
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    if (listener < 0 || getsockname(listener, (struct sockaddr *)&address, &length) != 0) {
        perror("listening");
        return 1;
    }
    modbus_set_slave(device, UNIT);
    printf("ready %d\n", ntohs(address.sin_port));
    fflush(stdout);
    while (modbus_tcp_accept(device, &listener) >= 0) {
        serve(device, map);
        modbus_close(device);
    }
    return 1;
}
