// One agent's connection: frames in, answers out. A broken frame or a lost agent ends it.
// Thread: the process's only one; writing blocks while the agent does not read, which is how it slows a snapshot.
#pragma once
#include "agentd/apply/worker.hpp"

namespace replica {

class Connection {
public:
    using Ended = void (*)();
    Connection(struct mail_storage_service_ctx *ctx, int fd, Ended ended);
    ~Connection();
    Connection(const Connection &) = delete;

private:
    static void readable(Connection *self);
    void read();
    bool handle_frames();
    bool send(const std::string &frame);

    int fd_;
    Ended ended_;
    struct io *io_;
    FrameSplitter splitter_;
    Worker worker_;
};

} // namespace replica
