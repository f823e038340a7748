// The mail process's side of the agent's socket: connects when first needed, asks one thing at a time, waits for the
// answer. Thread: the mail process's only one; blocks it, at most for the time that each call names. Owns: its socket.
// Fails: never by itself; what got no answer is refused as `unavailable`. After one timeout or lost connection
// everything is refused at once, but for one probe per second that waits 100 ms.
#pragma once
#include "lib/wire/frame.hpp"
#include <chrono>
#include <string>

namespace replica {

using Clock = std::chrono::steady_clock;

// Whether to ask at all, and how long to wait. Pure: the time comes in.
class FailFast {
public:
    static constexpr std::chrono::milliseconds probe_interval{1000}, probe_wait{100};
    // How long a question asked now may take; zero: refuse without asking.
    std::chrono::milliseconds allowed(Clock::time_point now, std::chrono::milliseconds wait);
    void failed(Clock::time_point now);
    void answered() { failing_ = false; }
    bool failing() const { return failing_; }

private:
    bool failing_ = false;
    Clock::time_point next_probe_;
};

// Where an ACK came from: DONE goes to that connection or to none, since a change whose connection is lost is in doubt
// anyway.
struct Ticket {
    uint64_t connection = 0, request = 0;
};

struct AgentReply {
    Reason reason = Reason::none;
    std::string text;      // why refused, for the log
    bool known = false;    // refused without asking, for a reason that was reported before
    bool in_doubt = false; // a change that was refused, but that the log may have
    Number number;
    Ticket ticket;
};

class AgentClient {
public:
    struct Config {
        std::string socket_path, service;
        std::chrono::milliseconds ack_timeout{5000};
    };
    explicit AgentClient(Config config) : config_(std::move(config)) {}
    AgentClient(const AgentClient &) = delete;
    ~AgentClient() { disconnect(); }

    AgentReply clear(const std::string &account, const Object &object, const Mark &mark,
                     std::chrono::milliseconds wait);
    AgentReply commit(const std::string &account, const Mark &mark, Change change);
    void done(const Ticket &ticket, bool ok);
    // Asks for what makes an object clear, without waiting for it: the caller has a lock and refuses.
    void ask_for_clear(const std::string &account, const Object &object, const Mark &mark);
    std::chrono::milliseconds ack_timeout() const { return config_.ack_timeout; }

private:
    enum class Outcome : uint8_t { ok, lost, timeout };
    void tell(const ClientFrame &frame);
    AgentReply ask(uint64_t request, const std::string &frame, std::chrono::milliseconds wait);
    Outcome connect(Clock::time_point deadline);
    Outcome send(std::string_view bytes, Clock::time_point deadline);
    Outcome receive(uint64_t request, Clock::time_point deadline, AgentReply &reply);
    Outcome lose(std::string problem);
    Outcome wait_for(short events, Clock::time_point deadline);
    bool peer_is_there() const;
    void disconnect();

    Config config_;
    int fd_ = -1;
    uint32_t connected_as_ = 0;
    FrameSplitter splitter_;
    FailFast fail_fast_;
    uint64_t last_request_ = 0, connection_ = 0;
    std::string problem_; // of the last loss
};

} // namespace replica
