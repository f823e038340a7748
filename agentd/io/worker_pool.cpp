#include "agentd/io/worker_pool.hpp"

namespace replica {

using namespace std::chrono_literals;

struct WorkerPool::Worker : std::enable_shared_from_this<Worker> {
    struct Asked {
        uint32_t id;
        std::string account, frame;
        Effects::WorkerDone done;
    };
    WorkerPool &pool;
    bool originate;
    size_t index;
    std::shared_ptr<Connection> connection;
    FrameSplitter frames;
    std::deque<Asked> asked; // in order, not answered yet
    uint32_t next_id = 1;
    bool connecting = false, paused = false;

    Worker(WorkerPool &owner, bool originates, size_t number) : pool(owner), originate(originates), index(number) {}

    void ask(Asked request) {
        asked.push_back(std::move(request));
        if (connection)
            connection->send(asked.back().frame);
        else
            connect();
    }
    void connect() {
        if (connecting) return;
        auto made = pool.loop_.connect(pool.settings_.socket_path);
        if (!made) {
            connecting = true;
            pool.handlers_.warn("worker: " + made.error().message);
            pool.loop_.after(1s, [weak = weak_from_this()] {
                auto self = weak.lock();
                if (!self) return;
                self->connecting = false;
                if (!self->asked.empty() && !self->connection) self->connect();
            });
            return;
        }
        connection = *made;
        frames = {};
        connection->start({[this, self = shared_from_this()](std::string_view bytes) { received(bytes); },
                           [weak = weak_from_this()] {
                               if (auto self = weak.lock()) self->lost();
                           }});
        connection->pause(paused);
        connection->send(encode_frame(WorkerRequest{WorkerHello{0, 1, originate}}));
        for (auto &request : asked)
            connection->send(request.frame);
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
        if (answered.id == 0) return true; // to our hello
        if (asked.empty() || asked.front().id != answered.id) return broken("an answer out of order"), false;
        auto done = std::move(asked.front().done);
        asked.pop_front();
        done(answered);
        return true;
    }
    void broken(const std::string &why) {
        pool.handlers_.warn("worker: closed: " + why);
        if (connection) connection->close();
    }
    void lost() {
        connection.reset();
        auto gone = std::move(asked);
        asked.clear();
        for (auto &request : gone) {
            Reply retry;
            retry.id = request.id;
            retry.verdict = Verdict::retry;
            retry.text = "the worker was lost";
            request.done(retry);
        }
        if (!originate) pool.handlers_.lost(index);
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
    worker.ask({id, account, encode_frame(request), std::move(done)});
}

void WorkerPool::pause_bulk(bool on) {
    for (auto &worker : originators_) {
        worker->paused = on;
        if (worker->connection) worker->connection->pause(on);
    }
}

} // namespace replica
