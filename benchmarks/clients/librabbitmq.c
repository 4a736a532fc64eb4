/* librabbitmq in C: takes COUNT messages and acknowledges one in EVERY; nothing is decoded.
 *
 *     cc -O2 -o librabbitmq librabbitmq.c -lrabbitmq
 *     ./librabbitmq HOST PORT QUEUE COUNT PREFETCH EVERY
 */
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static double now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void require(int fine, const char *what)
{
    if (!fine) {
        fprintf(stderr, "librabbitmq: %s failed\n", what);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    require(argc == 7, "HOST PORT QUEUE COUNT PREFETCH EVERY");
    const long count = atol(argv[4]), every = atol(argv[6]);

    amqp_connection_state_t connection = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(connection);
    require(socket && !amqp_socket_open(socket, argv[1], atoi(argv[2])), "connecting");
    amqp_rpc_reply_t login = amqp_login(connection, "/", 0, 131072, 60, AMQP_SASL_METHOD_PLAIN,
                                        "guest", "guest");
    require(login.reply_type == AMQP_RESPONSE_NORMAL, "login");
    require(amqp_channel_open(connection, 1) != NULL, "channel.open");
    require(amqp_basic_qos(connection, 1, 0, atoi(argv[5]), 0) != NULL, "basic.qos");
    require(amqp_basic_consume(connection, 1, amqp_cstring_bytes(argv[3]), amqp_empty_bytes, 0, 0,
                               0, amqp_empty_table) != NULL, "basic.consume");

    double began = 0, began_cpu = 0;
    for (long taken = 1; taken <= count; taken++) {
        amqp_envelope_t envelope;
        amqp_maybe_release_buffers(connection);
        amqp_rpc_reply_t reply = amqp_consume_message(connection, &envelope, NULL, 0);
        require(reply.reply_type == AMQP_RESPONSE_NORMAL, "basic.deliver");
        if (taken == 1) {
            began = now(CLOCK_MONOTONIC);
            began_cpu = now(CLOCK_PROCESS_CPUTIME_ID);
        }
        if (taken % every == 0 || taken == count)
            require(!amqp_basic_ack(connection, 1, envelope.delivery_tag, every > 1), "basic.ack");
        amqp_destroy_envelope(&envelope);
    }
    printf("{\"messages\": %ld, \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n", count,
           now(CLOCK_MONOTONIC) - began, now(CLOCK_PROCESS_CPUTIME_ID) - began_cpu);
    amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(connection);
    return 0;
}
