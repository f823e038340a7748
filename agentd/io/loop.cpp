#include <utility>
#include <boost/asio.hpp>
#include "agentd/io/loop.hpp"
#include <deque>
#include <cerrno>
#include <cstring>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <vector>

namespace replica {

namespace asio = boost::asio;
using Socket = asio::local::stream_protocol::socket;

namespace {
class AsioConnection final : public Connection {
public:
    explicit AsioConnection(Socket socket) : socket_(std::move(socket)) {
        ucred peer{};
        socklen_t size = sizeof(peer);
        if (getsockopt(socket_.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0) peer_uid_ = peer.uid;
    }

    void start(Handlers handlers) override {
        handlers_ = std::move(handlers);
        read();
    }
    void send(std::string bytes) override {
        if (closed_) return;
        queued_ += bytes.size();
        if (queued_ > queue_bytes_max) return close();
        queue_.push_back(std::move(bytes));
        if (queue_.size() == 1) write();
    }
    void pause(bool on) override {
        bool resume = paused_ && !on;
        paused_ = on;
        if (resume && !reading_) read();
    }
    void close() override {
        if (closed_) return;
        closed_ = true;
        boost::system::error_code ignored;
        socket_.close(ignored);
        // the handlers may hold the last references to what they belong to: not from inside one of their own calls
        asio::post(socket_.get_executor(), [self = shared_from_this(), handlers = std::move(handlers_)] {
            if (handlers.closed) handlers.closed();
        });
        handlers_ = {};
    }
    void close_when_sent() override {
        closing_ = true;
        if (queue_.empty()) close();
    }
    uint32_t peer_uid() const override { return peer_uid_; }

private:
    void read() {
        if (closed_ || paused_ || reading_) return;
        reading_ = true;
        socket_.async_read_some(asio::buffer(buffer_),
                                [this, self = shared_from_this()](boost::system::error_code error, size_t n) {
                                    reading_ = false;
                                    if (closed_) return;
                                    if (error) return close();
                                    auto received = handlers_.received; // may be dropped by close() while it runs
                                    received({buffer_, n});
                                    read();
                                });
    }
    void write() {
        asio::async_write(socket_, asio::buffer(queue_.front()),
                          [this, self = shared_from_this()](boost::system::error_code error, size_t) {
                              if (closed_) return;
                              if (error) return close();
                              queued_ -= queue_.front().size();
                              queue_.pop_front();
                              if (!queue_.empty())
                                  write();
                              else if (closing_)
                                  close();
                          });
    }

    Socket socket_;
    uint32_t peer_uid_ = UINT32_MAX; // nobody's
    Handlers handlers_;
    char buffer_[16384];
    std::deque<std::string> queue_;
    size_t queued_ = 0;
    bool closed_ = false, closing_ = false, paused_ = false, reading_ = false;
};
} // namespace

struct Loop::Impl {
    struct Watch {
        asio::posix::stream_descriptor descriptor;
        std::function<void()> readable;
        Watch(asio::io_context &context, int fd, std::function<void()> task)
            : descriptor(context, fd), readable(std::move(task)) {}
        ~Watch() { descriptor.release(); }
        void wait() {
            descriptor.async_wait(asio::posix::stream_descriptor::wait_read, [this](boost::system::error_code error) {
                if (error) return;
                readable();
                wait();
            });
        }
    };
    asio::io_context context{1};
    std::vector<std::unique_ptr<Watch>> watches;
};

class Loop::Timer : public std::enable_shared_from_this<Timer> {
public:
    Timer(asio::io_context &context, std::chrono::milliseconds period, std::function<void()> task)
        : timer_(context), period_(period), task_(std::move(task)) {}
    void arm() {
        timer_.expires_after(period_);
        timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
            auto self = weak.lock();
            if (error || !self) return;
            self->task_();
            self->arm();
        });
    }

private:
    asio::steady_timer timer_;
    std::chrono::milliseconds period_;
    std::function<void()> task_;
};

Loop::Loop() : impl_(std::make_unique<Impl>()) {}
Loop::~Loop() = default;

void Loop::run() {
    auto guard = asio::make_work_guard(impl_->context);
    impl_->context.run();
}
void Loop::stop() { impl_->context.stop(); }
void Loop::post(std::function<void()> task) { asio::post(impl_->context, std::move(task)); }

std::shared_ptr<Loop::Timer> Loop::every(std::chrono::milliseconds period, std::function<void()> task) {
    auto timer = std::make_shared<Timer>(impl_->context, period, std::move(task));
    timer->arm();
    return timer;
}

void Loop::after(std::chrono::milliseconds delay, std::function<void()> task) {
    auto timer = std::make_shared<asio::steady_timer>(impl_->context, delay);
    timer->async_wait([timer, task = std::move(task)](boost::system::error_code error) {
        if (!error) task();
    });
}

void Loop::watch(int fd, std::function<void()> readable) {
    auto &watch = impl_->watches.emplace_back(std::make_unique<Impl::Watch>(impl_->context, fd, std::move(readable)));
    watch->wait();
}

std::shared_ptr<Connection> Loop::adopt(int fd) {
    Socket socket(impl_->context);
    socket.assign(asio::local::stream_protocol(), fd);
    return std::make_shared<AsioConnection>(std::move(socket));
}

Result<std::shared_ptr<Connection>> Loop::connect(const std::string &unix_path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (unix_path.size() >= sizeof(address.sun_path)) return Error{Code::invalid, unix_path + ": the path is too long"};
    std::copy(unix_path.begin(), unix_path.end(), address.sun_path);
    // Not blocking, and not through Asio, which would wait where nobody accepts.
    int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && ::connect(fd, reinterpret_cast<const sockaddr *>(&address), sizeof(address)) == 0) return adopt(fd);
    Error error{Code::retry, unix_path + ": " + std::strerror(errno)};
    if (fd >= 0) ::close(fd);
    return error;
}

} // namespace replica
