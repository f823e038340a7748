// replica-apply: a service process of Dovecot's that applies what the log says, and takes snapshots, on the agent's
// orders.
#include "agentd/apply/connection.hpp"

namespace replica {

namespace {

struct mail_storage_service_ctx *storage_service;
Connection *connection; // client_limit is 1

void connection_ended() {
    delete connection;
    connection = nullptr;
    master_service_client_connection_destroyed(master_service);
}

void client_connected(struct master_service_connection *client) {
    if (connection != nullptr) i_fatal("service replica-apply needs client_limit = 1");
    master_service_client_connection_accept(client);
    connection = new Connection(storage_service, client->fd, connection_ended);
}

int run(int argc, char *argv[]) {
    master_service = master_service_init("replica-apply", compat::service_flags, &argc, &argv, "");
    if (master_getopt(master_service) > 0) return FATAL_DEFAULT;
    const char *error;
    if (compat::service_settings_read(&error) < 0) i_fatal("Error reading configuration: %s", error);
    master_service_init_log(master_service);
    storage_service = compat::user_service_init();
    callout_guard_init();
    std::signal(SIGIO, SIG_IGN); // the kernel's word that a lease is asked back; ours last no longer than a call
    master_service_init_finish(master_service);

    master_service_run(master_service, client_connected);

    delete connection;
    mail_storage_service_deinit(&storage_service);
    master_service_deinit(&master_service);
    return 0;
}

} // namespace

} // namespace replica

int main(int argc, char *argv[]) { return replica::run(argc, argv); }
