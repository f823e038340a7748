#include "agentd/io/worker_pool.hpp"

namespace replica {

using namespace std::chrono_literals;

namespace {
// On their way to a worker: more would only wait in the socket's queue, which closes a peer that does not read.
constexpr size_t sent_max = 256, sent_bytes_max = 8u << 20;
constexpr int deaths_max = 3; // in a row, at work for one account
} // namespace

struct WorkerPool::Worker : std::enable_shared_from_this<Worker> {
    struct Asked {
        uint32_t id;
        std::string account, frame; // the frame until it was sent
        size_t bytes;
        Effects::WorkerDone done;
    };
    WorkerPool &pool;
    bool originate;
    size_t index;
    std::shared_ptr<Connection> connection;
    FrameSplitter frames;
    std::deque<Asked> asked;         // in order, not answered yet
    size_t sent = 0, sent_bytes = 0; // of asked, from the front
    uint32_t next_id = 1;
    bool connecting = false, paused = false, greeted = false;
    std::string problem, died_for; // named in the log; whom it worked for when it was lost
    int deaths = 0;

    Worker(WorkerPool &owner, bool originates, size_t number) : pool(owner), originate(originates), index(number) {}

    void ask(Asked request) {
        asked.push_back(std::move(request));
        if (connection)
            send();
        else
            connect();
    }
    void send() {
        while (connection && sent < asked.size() && sent < sent_max && (sent == 0 || sent_bytes < sent_bytes_max)) {
            auto &next = asked[sent++];
            sent_bytes += next.bytes;
            connection->send(std::exchange(next.frame, {}));
        }
    }
    void connect() {
        if (connecting) return;
        auto made = pool.loop_.connect(pool.settings_.socket_path);
        if (!made) {
            connecting = true;
            if (std::exchange(problem, made.error().message) != made.error().message)
                pool.handlers_.warn("worker: " + problem);
            pool.loop_.after(1s, [weak = weak_from_this()] {
                auto self = weak.lock();
                if (!self) return;
                self->connecting = false;
                if (!self->asked.empty() && !self->connection) self->connect();
            });
            return;
        }
        connection = *made;
        problem.clear();
        frames = {};
        sent = sent_bytes = 0;
        greeted = false;
        connection->start({[this, self = shared_from_this()](std::string_view bytes) { received(bytes); },
                           [weak = weak_from_this()] {
                               if (auto self = weak.lock()) self->lost();
                           }});
        connection->pause(paused);
        connection->send(encode_frame(WorkerRequest{WorkerHello{0, 1, originate}}));
        send();
    }
    void received(std::string_view bytes) {
        frames.feed(bytes);
        for (;;) {
            auto frame = frames.next();
            if (!frame) return broken(frame.error().message);
            if (!*frame) return;
            auto reply = decode_worker_reply(**frame);
            if (!reply) return broken(reply.error().message);
            if (!answer(*reply)) return;
        }
    }
    bool answer(const WorkerReply &reply) {
        if (auto *bulk = std::get_if<BulkOut>(&reply)) {
            if (asked.empty() || asked.front().id != bulk->id) return broken("bulk that nobody asked for"), false;
            pool.handlers_.bulk(asked.front().account, bulk->bulk);
            return true;
        }
        auto &answered = std::get<Reply>(reply);
        if (answered.id == 0) return greeted = true; // to our hello
        if (asked.empty() || asked.front().id != answered.id) return broken("an answer out of order"), false;
        if (asked.front().account == died_for) died_for.clear(), deaths = 0;
        auto done = std::move(asked.front().done);
        sent_bytes -= asked.front().bytes;
        sent--;
        asked.pop_front();
        send();
        done(answered);
        return true;
    }
    void broken(const std::string &why) {
        pool.handlers_.warn("worker: closed: " + why);
        if (connection) connection->close();
    }
    void lost() {
        connection.reset();
        auto gone = std::exchange(asked, {});
        sent = sent_bytes = 0;
        bool fails = dies_of(gone);
        for (auto &request : gone) {
            Reply reply;
            reply.id = request.id;
            reply.verdict = std::exchange(fails, false) ? Verdict::failed : Verdict::retry;
            reply.text = reply.verdict == Verdict::failed ? "workers die of it" : "the worker was lost";
            request.done(reply);
        }
        if (!originate) pool.handlers_.lost(index);
    }
    // It died again, and was at work for the same account as each time before.
    bool dies_of(const std::deque<Asked> &gone) {
        if (!greeted || gone.empty() || gone.front().account.empty()) return false;
        if (died_for != gone.front().account) deaths = 0;
        died_for = gone.front().account;
        if (++deaths < deaths_max) return false;
        deaths = 0;
        pool.handlers_.warn("worker: died " + std::to_string(deaths_max) +
                            " times while it worked for account=" + died_for);
        return true;
    }
};

WorkerPool::WorkerPool(Loop &loop, Settings settings, Handlers handlers)
    : loop_(loop), settings_(std::move(settings)), handlers_(std::move(handlers)) {
    for (size_t i = 0; i < settings_.appliers; i++)
        appliers_.push_back(std::make_shared<Worker>(*this, false, i));
    for (size_t i = 0; i < settings_.originators; i++)
        originators_.push_back(std::make_shared<Worker>(*this, true, i));
}
WorkerPool::~WorkerPool() {
    for (auto *workers : {&appliers_, &originators_})
        for (auto &worker : *workers)
            if (worker->connection) worker->connection->close();
}

size_t WorkerPool::applier_of(const std::string &account) const {
    return std::hash<std::string>{}(account) % appliers_.size();
}

WorkerPool::Worker &WorkerPool::worker_of(const std::string &account, bool originate) {
    return originate ? *originators_[std::hash<std::string>{}(account) % originators_.size()]
                     : *appliers_[applier_of(account)];
}

void WorkerPool::ask(const std::string &account, WorkerRequest request, bool originate, Effects::WorkerDone done) {
    auto &worker = worker_of(account, originate);
    uint32_t id = worker.next_id++;
    if (worker.next_id == 0) worker.next_id = 1;
    std::visit([&](auto &r) { r.id = id; }, request);
    auto frame = encode_frame(request);
    size_t bytes = frame.size();
    worker.ask({id, account, std::move(frame), bytes, std::move(done)});
}

void WorkerPool::pause_bulk(bool on) {
    for (auto &worker : originators_) {
        worker->paused = on;
        if (worker->connection) worker->connection->pause(on);
    }
}

} // namespace replica
