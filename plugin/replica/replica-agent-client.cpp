#include "plugin/replica/replica-agent-client.hpp"
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>

namespace replica {

using std::chrono::milliseconds;

namespace {

constexpr milliseconds listener_gap{300}; // a reload of Dovecot makes its listeners anew: for a moment there is none
constexpr int listener_poll_ms = 5;

std::string with_errno(const char *call) { return std::string(call) + " failed: " + strerror(errno); }

milliseconds left_until(Clock::time_point deadline) {
    return std::max(milliseconds(0), std::chrono::ceil<milliseconds>(deadline - Clock::now()));
}

// What an agent says of a change that it had not sealed yet. Of the others it may have had the change under way.
bool is_certain(Reason reason) {
    return reason == Reason::unavailable || reason == Reason::behind || reason == Reason::deleted ||
           reason == Reason::too_large || reason == Reason::busy;
}

// True if the frame answers this request.
bool take_answer(const AgentFrame &frame, uint64_t request, AgentReply &reply) {
    if (auto *answer = std::get_if<Answer>(&frame); answer && answer->request == request) {
        reply.reason = answer->reason;
        reply.text = answer->text;
        return true;
    }
    if (auto *ack = std::get_if<Ack>(&frame); ack && ack->request == request) {
        reply.number = ack->number;
        return true;
    }
    if (auto *refused = std::get_if<Refused>(&frame); refused && refused->request == request) {
        reply.reason = refused->reason == Reason::none ? Reason::protocol : refused->reason;
        reply.text = refused->text;
        return true;
    }
    return false;
}

} // namespace

milliseconds FailFast::allowed(Clock::time_point now, milliseconds wait) {
    if (!failing_) return wait;
    if (now < next_probe_) return milliseconds(0);
    next_probe_ = now + probe_interval;
    return std::min(wait, probe_wait);
}

void FailFast::failed(Clock::time_point now) {
    failing_ = true;
    next_probe_ = now + probe_interval;
}

AgentReply AgentClient::clear(const std::string &account, const Object &object, const Mark &mark, milliseconds wait) {
    uint64_t request = ++last_request_;
    return ask(request, encode_frame(ClientFrame(Clear{request, account, object, mark})), wait);
}

AgentReply AgentClient::commit(const std::string &account, const Mark &mark, Change change) {
    if (fail_fast_.failing()) {
        AgentReply probe = clear(account, change.object, mark, FailFast::probe_wait);
        if (probe.reason != Reason::none) return probe;
    }
    uint64_t request = ++last_request_;
    std::string frame = encode_frame(ClientFrame(ChangeFrame{request, account, std::move(change)}));
    if (frame.size() > frame_bytes_max) {
        AgentReply reply;
        reply.reason = Reason::too_large;
        reply.text = "a change of " + std::to_string(frame.size()) + " bytes is too large for a frame";
        return reply;
    }
    return ask(request, frame, config_.ack_timeout);
}

void AgentClient::done(const Ticket &ticket, bool ok) {
    if (ticket.connection == connection_) tell(Done{ticket.request, ok});
}

void AgentClient::ask_for_clear(const std::string &account, const Object &object, const Mark &mark) {
    tell(Clear{++last_request_, account, object, mark});
}

// What no answer is awaited to. If the agent is not there, nobody else would be told either.
void AgentClient::tell(const ClientFrame &frame) {
    if (fd_ < 0) return;
    std::string bytes = encode_frame(frame);
    ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent != static_cast<ssize_t>(bytes.size())) disconnect(); // half a frame would poison the stream
}

AgentReply AgentClient::ask(uint64_t request, const std::string &frame, milliseconds wait) {
    AgentReply reply;
    milliseconds allowed = fail_fast_.allowed(Clock::now(), wait);
    if (allowed.count() == 0) {
        reply.reason = Reason::unavailable;
        reply.text = problem_;
        reply.known = true;
        return reply;
    }

    // A lost connection is a reload or a crash of the agent: the next one refuses what the lost one has numbered,
    // because the offered mark is then behind. So asking again is safe (twice: a new connection may still have waited
    // at the old listener). After a timeout it is not asked again: the caller has a lock.
    Clock::time_point deadline = Clock::now() + allowed;
    bool sent = false;
    for (int attempts = 3; attempts > 0; --attempts) {
        if (!peer_is_there() && connect(deadline) != Outcome::ok) break;
        Outcome outcome = send(frame, deadline);
        bool sent_before = std::exchange(sent, sent || outcome == Outcome::ok);
        if (outcome == Outcome::ok) outcome = receive(request, deadline, reply);
        if (outcome == Outcome::ok) {
            fail_fast_.answered();
            reply.ticket = {connection_, request};
            reply.in_doubt = reply.reason != Reason::none && (sent_before || !is_certain(reply.reason));
            return reply;
        }
        if (outcome == Outcome::timeout) {
            problem_ = "the agent did not answer within " + std::to_string(allowed.count()) + " ms";
            break;
        }
    }
    disconnect();
    fail_fast_.failed(Clock::now());
    reply.reason = Reason::unavailable;
    reply.text = problem_;
    reply.in_doubt = sent;
    return reply;
}

AgentClient::Outcome AgentClient::connect(Clock::time_point deadline) {
    disconnect();
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (config_.socket_path.size() >= sizeof address.sun_path)
        return lose(config_.socket_path + " is too long for a socket");
    memcpy(address.sun_path, config_.socket_path.data(), config_.socket_path.size());

    fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd_ < 0) return lose(with_errno("socket()"));
    // Linux lets connect() wait this long for room in the listener's backlog.
    auto left = std::max(left_until(deadline), milliseconds(1)).count();
    timeval timeout{static_cast<time_t>(left / 1000), static_cast<suseconds_t>(left % 1000 * 1000)};
    if (::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) < 0)
        return lose(with_errno("setsockopt()"));
    auto gap_ends = std::min(deadline, Clock::now() + listener_gap);
    while (::connect(fd_, reinterpret_cast<sockaddr *>(&address), sizeof address) < 0) {
        bool absent = errno == ENOENT || errno == ECONNREFUSED;
        if (!absent || Clock::now() >= gap_ends)
            return lose(with_errno(("connect(" + config_.socket_path + ")").c_str()));
        (void)::poll(nullptr, 0, listener_poll_ms);
    }
    ++connection_;
    connected_as_ = ::geteuid();
    return send(
        encode_frame(ClientFrame(Hello{agent_protocol_version, config_.service, static_cast<uint32_t>(::getpid())})),
        deadline);
}

AgentClient::Outcome AgentClient::send(std::string_view bytes, Clock::time_point deadline) {
    while (!bytes.empty()) {
        ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) {
            bytes.remove_prefix(static_cast<size_t>(sent));
        } else if (errno == EAGAIN) {
            if (Outcome outcome = wait_for(POLLOUT, deadline); outcome != Outcome::ok) return outcome;
        } else if (errno != EINTR) {
            return lose(with_errno("send() to the agent"));
        }
    }
    return Outcome::ok;
}

AgentClient::Outcome AgentClient::receive(uint64_t request, Clock::time_point deadline, AgentReply &reply) {
    std::array<char, 4096> buffer;
    while (true) {
        auto next = splitter_.next();
        if (!next) return lose("the agent sent what is no frame: " + next.error().message);
        if (*next) {
            auto frame = decode_agent_frame(**next);
            if (!frame) return lose("the agent sent a frame that cannot be read: " + frame.error().message);
            if (take_answer(*frame, request, reply)) return Outcome::ok;
            continue;
        }
        if (Outcome outcome = wait_for(POLLIN, deadline); outcome != Outcome::ok) return outcome;
        ssize_t got = ::recv(fd_, buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (got > 0)
            splitter_.feed({buffer.data(), static_cast<size_t>(got)});
        else if (got == 0)
            return lose("the agent closed the connection");
        else if (errno != EAGAIN && errno != EINTR)
            return lose(with_errno("recv() from the agent"));
    }
}

AgentClient::Outcome AgentClient::wait_for(short events, Clock::time_point deadline) {
    while (true) {
        pollfd poll_fd{fd_, events, 0};
        auto left = left_until(deadline);
        int ready = ::poll(&poll_fd, 1, static_cast<int>(left.count()));
        if (ready > 0) return Outcome::ok;
        if (ready == 0 && left.count() == 0) return Outcome::timeout;
        if (ready < 0 && errno != EINTR) return lose(with_errno("poll()"));
    }
}

AgentClient::Outcome AgentClient::lose(std::string problem) {
    problem_ = std::move(problem);
    disconnect();
    return Outcome::lost;
}

// An agent that is being replaced closes its idle clients. It hears a connection for whom it was made as: a process
// that becomes one mail user after the other makes a new one.
bool AgentClient::peer_is_there() const {
    if (fd_ < 0 || connected_as_ != ::geteuid()) return false;
    char byte;
    ssize_t got = ::recv(fd_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

void AgentClient::disconnect() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
    splitter_ = FrameSplitter();
}

} // namespace replica
