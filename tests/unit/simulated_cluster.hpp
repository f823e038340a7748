// A cluster in memory for tests of the control log and the operations: stores that share one control log, account logs
// and a blob store, whose every step (a message read, a record produced, a worker's answer, a tick) is one call, so
// that a test decides the order, and can kill a store between any two. The shell of each store is a model of its own;
// of agentd/core only Control, Operations and LogReader run in it.
#pragma once
#include "agentd/core/log_reader.hpp"
#include "agentd/core/operations.hpp"
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <set>

namespace replica::test {

using namespace std::chrono_literals;

struct Acknowledged {
    std::string account;
    Number number;
    Place place;
    int64_t offset;
};

// What all stores share, and what survives them.
struct World {
    KeyRing ring = *KeyRing::parse(KeyRing::generate());
    Time now = Time{} + 1000s;
    uint64_t wall_ms = 1'700'000'000'000;
    std::vector<std::pair<std::string, std::string>> control_log;
    std::map<Place, std::vector<Entry>> places;
    std::map<std::string, std::string> blobs;
    std::vector<Acknowledged> acknowledged;

    void write(const std::string &key, const ControlValue &value) {
        control_log.emplace_back(key, seal_control(ring, Session{}, key, value));
    }
    AccountKey key(const std::string &account) const { return ring.account_key(account); }
};

class Store final : public Effects, public Local {
public:
    Store(World &shared, std::string name) : world(shared), name_(std::move(name)) { start(); }

    // --- its life
    bool alive = false;
    void start();
    void kill(std::mt19937 *random = nullptr); // what was on its way to the brokers may arrive or not
    Control &control() { return *control_; }
    Operations &operations() { return *operations_; }
    const Operation *operation(const Guid &id) { return control_->operation(id); }

    // --- steps; false = there was nothing to do
    bool deliver_control(); // the producer's next control message reaches the log
    bool read_control();
    bool deliver_record();
    bool read_place();
    bool apply_one();
    bool answer_worker();
    bool answer_flush(bool ok = true);
    bool publish_state(); // as destination, if there is news
    void tick() { operations_->tick(world.now); }
    void heartbeat();
    size_t unsettled() const { return unsettled_.size(); } // fences and opens that it goes on producing
    bool append(const std::string &account);               // as source: a change on its way
    Number position(const std::string &account) const;     // what is in its indexes

    // --- what a test may bend
    std::map<std::string, AccountFacts> facts; // by account; others exist and are good
    std::map<std::string, std::string> promotion_problems;
    std::map<std::string, std::vector<Object>> wanted;
    std::map<std::string, std::string> unlogged; // what it finds when it looks
    std::set<std::string> stopped;               // destinations of these accounts report that they stopped
    bool initialises = true;                     // destinations become complete
    bool own_blobs = false;                      // not the shared blob store
    bool mute_worker = false;                    // its workers do not answer
    std::string start_error, version = "0.1.0", key_check, admin;
    std::optional<std::string> probe_write_error;
    int retries = 0; // of the next worker requests
    std::vector<std::string> log_lines;
    std::vector<Notify> mails;
    std::vector<std::string> erased;
    int produced = 0;

    // --- Local
    const std::string &store() const override { return name_; }
    const Session &session() const override { return session_; }
    Result<EpochPlace> start_for_destination(const std::string &account, const std::string &destination) override;
    Result<EpochPlace> new_place(const std::string &account, uint64_t epoch) override;
    std::string promotion_problem(const std::string &account) const override;
    void look_for_unlogged(const std::string &account, std::function<void(const std::string &)> done) override {
        if (!mute_worker) done(unlogged[account]);
    }
    bool fence_read(const std::string &account, uint64_t epoch) const override;
    bool drained(const std::string &account) const override;
    Number applied(const std::string &account) const override;
    int64_t read_to(const Place &) const override;
    void flush(std::function<void(bool ok)> done) override { flushes_.push_back(std::move(done)); }
    bool open_read(const std::string &account, uint64_t epoch) const override;
    // --- Effects
    void produce(const Place &, const AccountKey &, const Number &, const Record &) override;
    void settled(const AccountKey &, const Number &) override;
    size_t sealed_size(const Record &) const override { return 0; }
    void send(ClientId, const AgentFrame &) override {}
    void worker(const std::string &account, WorkerRequest request, bool, WorkerDone done) override {
        requests_.push_back({account, std::move(request), std::move(done)});
    }
    void publish(const std::string &key, const ControlValue &value) override {
        control_out_.emplace_back(key, seal_control(world.ring, session_, key, value));
    }
    void erase(const std::string &key) override {
        erased.push_back(key);
        control_out_.emplace_back(key, std::string());
    }
    void log(Level, const std::string &line) override { log_lines.push_back(line); }

    World &world;

private:
    struct Replica {
        LogReader reader;
        size_t next = 0;            // in the reader's place
        std::deque<Number> queue;   // counted, not applied
        uint64_t crossed_epoch = 0; // a fence of it, or above, was read in each place before it
        uint64_t acting_epoch = 0;  // this store was the active source of it
        bool open_produced = false;
        uint64_t version_published = 0;
        Number published;
    };
    struct Durable { // survives a kill
        Number applied;
        Place place;
    };
    struct Request {
        std::string account;
        WorkerRequest request;
        WorkerDone done;
    };
    struct Produced {
        Place place;
        AccountKey account;
        Number number;
        Record record;
    };

    // The first replica that has something to do, beginning behind the one that had it last.
    template <class Step> bool round_robin(AccountKey &last, Step step) {
        auto at = replicas_.upper_bound(last);
        for (size_t i = 0; i < replicas_.size(); i++, at++) {
            if (at == replicas_.end()) at = replicas_.begin();
            if (!step(at->first, at->second)) continue;
            last = at->first;
            return true;
        }
        return false;
    }
    void follow(const AccountRecord &);
    void cross(Replica &, const AccountRecord &);
    void judge(const AccountRecord &, Replica &, const Entry &);
    Reply answer(const Request &);
    Place own_place() const { return {"replica.changes." + name_, 0}; }
    const Replica *replica(const std::string &account) const {
        auto found = replicas_.find(world.key(account));
        return found == replicas_.end() ? nullptr : &found->second;
    }

    std::string name_;
    Session session_;
    std::unique_ptr<Control> control_;
    std::unique_ptr<Operations> operations_;
    size_t control_read_ = 0;
    uint64_t beats_ = 0;
    std::deque<std::pair<std::string, std::string>> control_out_;
    std::deque<Produced> records_out_;
    std::vector<Produced> unsettled_;
    std::deque<Request> requests_;
    std::deque<std::function<void(bool)>> flushes_;
    std::map<AccountKey, Replica> replicas_;
    std::map<AccountKey, Durable> durable_;
    std::map<Place, int64_t> read_to_, acknowledged_;
    AccountKey last_read_, last_applied_, last_published_;
};

class Cluster {
public:
    World world;
    std::map<std::string, std::unique_ptr<Store>> stores;

    explicit Cluster(const std::vector<std::string> &names = {"s1", "s2", "s3"}) {
        for (auto &name : names)
            stores[name] = std::make_unique<Store>(world, name);
        pass(1s);
    }
    Store &operator[](const std::string &name) { return *stores.at(name); }
    bool settle();             // all steps that can be done now; was there one?
    void pass(Time::duration); // lets time pass in small steps, with heartbeats, settling between
    bool step(std::mt19937 &); // one step of one store, chosen at random
    // Every number that counts in an account's log, walked from its first OPEN without any code of agentd/core.
    std::set<Number> truth(const std::string &account) const;
};

} // namespace replica::test
