#include "plugin/fs_s3/s3-client.hpp"
#include <algorithm>

namespace replica::s3 {

Client::Client(Location location, struct fs *fs, struct http_client *http)
    : location_(std::move(location)), fs_(fs), http_(http), credentials_(location_), signer_(location_.region),
      loop_(current_ioloop) {}

Outages &Client::outages() {
    static Outages outages;
    return outages;
}

Client::~Client() { http_client_deinit(&http_); }

Outcome Client::run(Operation operation, unsigned *attempts_r) {
    Call call(*this, std::move(operation));
    wait(call);
    if (attempts_r != nullptr) *attempts_r = call.attempts();
    return std::move(call.outcome());
}

void Client::wait(const Call &call) {
    run_until([&call] { return call.finished(); });
}

void Client::wait_any() {
    bool pending = std::any_of(calls_.begin(), calls_.end(), [](const Call *call) { return !call->finished(); });
    if (pending) run_until([this, before = finished_] { return finished_ != before; });
}

// As lib-http waits: in an ioloop of its own, so that nothing else of the process runs meanwhile.
template <class Done> void Client::run_until(Done done) {
    if (done()) return;
    struct ioloop *outer = current_ioloop, *inner = io_loop_create();
    move_to_current_ioloop();
    waiting_++;
    while (!done())
        io_loop_run(inner);
    waiting_--;
    io_loop_set_current(outer);
    move_to_current_ioloop();
    if (waiting_ > 0) io_loop_stop(outer); // what the outer wait is for may have come meanwhile
    io_loop_set_current(inner);
    io_loop_destroy(&inner);
}

bool Client::move_to_current_ioloop() {
    if (loop_ != current_ioloop) {
        loop_ = current_ioloop;
        http_client_switch_ioloop(http_);
        for (Call *call : calls_)
            call->move_to_current_ioloop();
    }
    return !calls_.empty();
}

void Client::ended(const Call *call) { std::erase(calls_, call); }

void Client::call_finished() {
    finished_++;
    if (waiting_ > 0) io_loop_stop(current_ioloop);
}

} // namespace replica::s3
