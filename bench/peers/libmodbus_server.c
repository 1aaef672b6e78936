/*
 * A Modbus TCP server for the benchmark: 1,000 holding registers with known values, any number of connections, one thread.
 * Prints the port it listens on. Ends with its standard input.
 */
#include <errno.h>
#include <modbus.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#define REGISTERS 1000

int main(void) {
    modbus_t *server = modbus_new_tcp("127.0.0.1", 0);
    modbus_mapping_t *map = modbus_mapping_new(0, 0, REGISTERS, 0);
    if (server == NULL || map == NULL) {
        return 1;
    }
    for (int i = 0; i < REGISTERS; i++) {
        map->tab_registers[i] = (uint16_t)(i * 7 + 3);
    }
    int listener = modbus_tcp_listen(server, 16);
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    if (listener < 0 || getsockname(listener, (struct sockaddr *)&address, &length) != 0) {
        return 1;
    }
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);

    fd_set open_set;
    FD_ZERO(&open_set);
    FD_SET(STDIN_FILENO, &open_set);
    FD_SET(listener, &open_set);
    int highest = listener;
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    for (;;) {
        fd_set ready = open_set;
        if (select(highest + 1, &ready, NULL, NULL, NULL) < 0) {
            return errno == EINTR ? 0 : 1;
        }
        for (int fd = 0; fd <= highest; fd++) {
            if (!FD_ISSET(fd, &ready)) {
                continue;
            }
            if (fd == STDIN_FILENO) {
                return 0;
            }
            if (fd == listener) {
                int client = accept(listener, NULL, NULL);
                if (client < 0) {
                    return 1;
                }
                int on = 1;
                setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                FD_SET(client, &open_set);
                highest = client > highest ? client : highest;
                continue;
            }
            modbus_set_socket(server, fd);
            int received = modbus_receive(server, query);
            if (received > 0) {
                modbus_reply(server, query, received, map);
            } else if (received < 0) {
                close(fd);
                FD_CLR(fd, &open_set);
            }
        }
    }
}
