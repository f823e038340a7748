// A simulated site around the real step machines: stores with power and without, mail processes that die between any
// two steps, workers, agents and a queue that loses, doubles and delays. One step at a time, chosen by a seed;
// everything is repeatable. The shell here is small and plain; Bug plants an error in it, for the test that shows that
// the properties notice.
#pragma once
#include "agentd/core/follow.hpp"
#include "agentd/core/log_reader.hpp"
#include "agentd/core/ship.hpp"
#include "tests/unit/model/plain.hpp"
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <random>

namespace replica::model {

using namespace std::chrono_literals;

enum class Bug : uint8_t {
    none,
    ack_on_delivery,      // the producer's report is taken for the reading back
    no_previous_number,   // the source does not say which change its change follows
    no_previous_compared, // a reader applies what is newer, whatever it follows
    no_fence_read_back,   // a promotion goes on before its fence is in the log
    offset_before_flush,  // the position is stored, then the power fails, then the indexes would have been flushed
    mark_not_compared,    // a reader applies what it has already
};

// --- what a store has on its disks ---
struct MarkedBox {
    plain::Box box;
    Mark mark;
};
struct Index {
    std::map<int, MarkedBox> boxes;
    Mark list;
};
struct Stored { // the agent's embedded store
    Number position;
    bool opened = false;
    int place = 0;
    size_t offset = 0; // read on from here
    bool wants_everything = false;
    std::vector<Object> wanted;
};
struct Collecting { // a snapshot that comes in, at a destination's worker
    SnapshotId id;
    Number number, last;
    std::vector<Bulk> parts;
    std::vector<NumberedChange> later;
};

struct Store {
    Index memory, disk;
    Stored stored;
    std::map<int, ClientId> locks; // of mailboxes and (0) the list
    std::map<int, Collecting> collecting;
};

class World;

// One store's agent: the machines, and the least shell that can run them.
class Agent final : public Effects {
public:
    Agent(World &world, int store) : world_(world), store_(store) {}

    bool alive = false;
    uint64_t life = 0; // of the process
    Session session;
    std::unique_ptr<LogReader> reader;
    std::unique_ptr<Ship> ship;
    std::unique_ptr<Follow> follow;
    bool gap = false;

    void start();
    void crash();
    void read_one();
    void tick();
    void cross(uint64_t epoch);
    bool at_end() const;
    bool ready() const { return alive && ship && ship_open_; }
    bool drained() const; // read to the fence, all of it in the indexes
    void flush_and_store(bool power_fails_between);
    void destination_says(const DestinationState &);
    void offer(ClientId client, ChangeFrame frame);
    void resend(); // the same bytes, until settled
    const std::map<Number, std::pair<int, Record>> &unsettled() const { return unsettled_; }

    void produce(const Place &, const AccountKey &, const Number &, const Record &) override;
    void settled(const AccountKey &, const Number &number) override { unsettled_.erase(number); }
    size_t sealed_size(const Record &record) const override { return encode(record).size(); }
    void send(ClientId client, const AgentFrame &frame) override;
    void worker(const std::string &, WorkerRequest request, bool originate, WorkerDone done) override;
    void publish(const std::string &, const ControlValue &) override {}
    void erase(const std::string &) override {}
    void log(Level, const std::string &) override {}

private:
    struct Fence {
        int place;
        size_t offset;
    };
    int place() const;
    const std::vector<Entry> &log() const;
    void begin_ship();
    void follow_from(const Follow::Start &start);
    void demote(size_t fence_at);
    void cross_if_ready();
    Stored storable() const;

    World &world_;
    int store_;
    uint64_t machine_ = 0; // answers for an earlier one are lost
    size_t offset_ = 0, read_to_first_ = 0;
    bool ship_open_ = false, crossed_ = false;
    std::optional<Fence> fence_; // read, and not yet crossed
    Fence restart_{};            // crossed_: where a restart begins until the OPEN is read
    std::map<Number, std::pair<int, Record>> unsettled_;
    std::map<Object, Number> last_snapshot_, last_number_;
};

// A mail process with one operation, or a snapshot that a worker takes: both call out in the same way.
struct Client {
    enum State : uint8_t { asking, cleared, waiting, acked, streaming } state = asking;
    ClientId id = 0;
    int store = 0;
    int lock = 0; // the object that it locks: a mailbox, or (0) the list
    bool holds_lock = false, agent_gone = false, refused = false;
    plain::Fact fact;
    Change change;
    Number number;
    Effects::WorkerDone snapshot_done; // a worker's snapshot
    std::deque<Bulk> bulk;
};

class World {
public:
    World(uint64_t seed, Bug bug, int stores = 3);
    void step();              // anything may happen
    void settle();            // nothing bad happens any more, until all is quiet
    void promote_and_check(); // the end of a run: the properties
    void check_stores();
    void lose_a_record(); // and see that it is named

    // --- for the agents ---
    struct Request {
        int store;
        WorkerRequest request;
        Effects::WorkerDone done;
    };
    struct Control {
        struct EpochPlace {
            int store;
            size_t offset;
        };
        uint64_t epoch = 1;
        int source = 0;
        bool active = true;
        std::map<uint64_t, EpochPlace> places;
    };
    void answered(int store, ClientId client, const AgentFrame &frame);
    void take_snapshot(int store, const WorkerRequest &request, Effects::WorkerDone done);
    void tell(int store, const std::string &what) const; // what happened, if REPLICA_TRACE is set
    void check_ack(int place, const Number &number, const Client &client) const;

    Time now{1000s};
    Bug bug;
    Control control;
    std::vector<std::vector<Entry>> logs; // one place for each store
    std::map<Session, std::deque<std::pair<int, Entry>>> in_flight;
    std::vector<Store> stores;
    std::vector<std::unique_ptr<Agent>> agents;
    std::deque<Request> requests;
    std::map<ClientId, Client> clients;
    uint64_t ids = 0;
    int gaps_named = 0;

    size_t random(size_t below) { return std::uniform_int_distribution<size_t>(0, below - 1)(random_); }
    bool chance(unsigned percent) { return random(100) < percent; }

private:
    // world.cpp: the queue, control, faults
    void append(int place, Entry entry);
    plain::Fact fact_of(const Change &change);
    void deliver();
    void plant_foreign();
    void power_loss(int store);
    void worker_dies(int store);
    void begin_promotion();
    void go_on_with_promotion();
    void tell_wants();
    void everyday_step();
    void fault_step();
    std::string what_moves() const;

    // mail.cpp: mail processes
    void new_operation();
    void client_step();
    void step_client(Client &client);
    bool make_change(Client &client);
    void commit(Client &client);
    void freeze(Client &client, const plain::Box &box);
    void end(ClientId client, Verdict verdict = Verdict::retry);
    void kill(ClientId client);
    void unlogged_commit();

    // worker.cpp
    void worker_step();
    Reply serve(Store &store, bool source, WorkerRequest &request);
    Verdict apply(Store &store, bool source, const NumberedChange &change);
    Verdict apply_list(Store &store, bool source, const NumberedChange &change);
    Verdict judge(const Mark &mark, const Number &previous, const Number &number) const;
    Verdict build(Store &store, const Build &request);

    std::mt19937_64 random_;
    bool traced_ = std::getenv("REPLICA_TRACE") != nullptr;
    std::vector<plain::Log> lines_;
    std::map<std::string, plain::Box> frozen_;
    std::vector<std::pair<Number, plain::Fact>> acknowledged_; // the client got its OK
    std::map<Guid, uint64_t> mails_;
    uint64_t opened_epoch_ = 1;
    std::set<int> unfenced_; // places that the promotion under way has still to fence
    bool open_sent_ = false, promoting_ = false, faults_ = true;
};

// Encodings of the simulated changes: the agent never looks into them.
Object object_of(int box);
int box_of(const Object &object);
std::string payload(const plain::Op &op);
plain::Op op_of(const Change &change);
std::string payload(const std::set<int> &boxes);
std::set<int> boxes_of(const Change &change);
inline std::string place_name(int store) { return "replica.changes." + std::to_string(store); }

} // namespace replica::model
