#include "agentd/apply/connection.hpp"
#include <poll.h>
#include <sys/socket.h>

namespace replica {

namespace {

constexpr size_t read_bytes = 64 * 1024;

}

Connection::Connection(struct mail_storage_service_ctx *ctx, int fd, Ended ended)
    : fd_(fd), ended_(ended), io_(io_add(fd, IO_READ, readable, this)),
      worker_(ctx, [this](const std::string &frame) { return send(frame); }) {}

Connection::~Connection() {
    io_remove(&io_);
    i_close_fd(&fd_);
}

void Connection::readable(Connection *self) { self->read(); }

void Connection::read() {
    std::string bytes(read_bytes, '\0');
    ssize_t got = ::recv(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return ended_();
    splitter_.feed(std::string_view(bytes).substr(0, static_cast<size_t>(got)));
    if (!handle_frames()) ended_();
}

bool Connection::handle_frames() {
    while (true) {
        auto frame = splitter_.next();
        if (!frame) {
            i_error("worker_protocol_error: %s", frame.error().message.c_str());
            return false;
        }
        if (!*frame) return true;
        auto request = decode_worker_request(**frame);
        if (!request) {
            i_error("worker_protocol_error: %s", request.error().message.c_str());
            return false;
        }
        bool sent;
        T_BEGIN { sent = worker_.handle(*request); }
        T_END;
        if (!sent) return false;
    }
}

bool Connection::send(const std::string &frame) {
    std::string_view rest(frame);
    while (!rest.empty()) {
        ssize_t n = ::send(fd_, rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            rest.remove_prefix(static_cast<size_t>(n));
            continue;
        }
        struct pollfd room = {fd_, POLLOUT, 0};
        if (errno == EAGAIN)
            (void)::poll(&room, 1, -1);
        else if (errno != EINTR)
            return false;
    }
    return true;
}

} // namespace replica
