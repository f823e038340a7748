// The agent's one thread: an Asio loop behind a small face, so that Asio is compiled once.
// Thread: everything is called and calls back on the thread that is in run(), but for post() and stop(), which any
// thread may call. Owns: a Connection lives while somebody holds it or it is open; its handlers are dropped when it
// closes.
#pragma once
#include "lib/base/result.hpp"
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace replica {

class Connection : public std::enable_shared_from_this<Connection> {
public:
    struct Handlers {
        std::function<void(std::string_view bytes)> received;
        std::function<void()> closed; // once, also after close()
    };
    virtual ~Connection() = default;
    virtual void start(Handlers handlers) = 0; // begins to read
    virtual void send(std::string bytes) = 0;  // queued; a peer that does not read is closed at queue_bytes_max
    virtual void pause(bool on) = 0;           // stops and resumes reading: back-pressure
    virtual void close() = 0;
    virtual void close_when_sent() = 0;
    virtual uint32_t peer_uid() const = 0; // as whom the other end connected, as the kernel knows it
    static constexpr size_t queue_bytes_max = 64u << 20;
};

class Loop {
public:
    Loop();
    ~Loop();
    void run();
    void stop();
    void post(std::function<void()> task);

    class Timer;
    // Runs `task` every `period` until the timer is dropped.
    std::shared_ptr<Timer> every(std::chrono::milliseconds period, std::function<void()> task);
    void after(std::chrono::milliseconds delay, std::function<void()> task);
    void watch(int fd, std::function<void()> readable); // for the loop's life; the descriptor stays its owner's

    std::shared_ptr<Connection> adopt(int fd); // a connected unix socket, owned from here on
    Result<std::shared_ptr<Connection>> connect(const std::string &unix_path);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace replica
