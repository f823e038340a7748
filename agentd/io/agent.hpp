// The agent of one mailstore: the shell around the decisions of agentd/core. It reads the places and the control log,
// seals and produces, serves the three sockets, talks to the workers, keeps the stored positions, and shows its
// heartbeat. Thread: everything but handle_connection() and shut_down() runs on the loop's thread.
#pragma once
#include "agentd/core/account.hpp"
#include "agentd/core/control.hpp"
#include "agentd/core/operations.hpp"
#include "agentd/core/place_reading.hpp"
#include "agentd/io/loop.hpp"
#include "agentd/io/worker_pool.hpp"
#include "agentd/kafka/kafka.hpp"
#include "agentd/state/state.hpp"
#include "lib/settings/settings.hpp"
#include <deque>
#include <set>
#include <unordered_map>

namespace replica {

struct AgentOptions {
    Settings settings;
    KeyRing ring;
    std::map<std::string, std::string> kafka_properties;
    std::string base_dir, host, version;
    std::string worker_socket, boot;
};

std::string account_fact(const AccountKey &); // what the agent's state calls an account: "a/" and its key

enum class SocketKind : uint8_t { mail, control, dict };

struct ControlService;

class Agent final : public Effects, public Local, public AccountHost {
public:
    using Log = std::function<void(Level, const std::string &)>;
    Agent(AgentOptions options, Log log);
    ~Agent();

    // Returns when shut_down() is through, or with the reason why this agent cannot serve.
    Result<void> run();
    void handle_connection(SocketKind kind, int fd); // any thread; the descriptor is the agent's from here on
    void shut_down(); // any thread: settles what is unsettled, closes its clients, ends run()

private:
    struct PlaceReader {
        PlaceReading reading;
        bool outage = false, moving = false;
        std::map<AccountKey, Time> busy; // reading waits for them
        int64_t stored = -1;             // as the state has it
        std::string problem, named;      // of reading it; as it stands in the log
        Time quarantine_named{};
        size_t quarantined = 0; // since then
    };
    struct Pending { // handed to the producer
        enum class Kind : uint8_t {
            record,
            bulk,
            control
        } kind = Kind::record; // a record stays until settled(), the others until delivered
        Place place;
        std::string key, value;
        AccountKey account;
        Number number;
        Time since;
        bool failed = false, named = false;
    };

    struct Client { // a mail process on the agent's socket
        std::shared_ptr<Connection> connection;
        FrameSplitter frames;
        std::map<uint64_t, AccountKey> unconfirmed; // requests whose DONE is to come
        std::set<AccountKey> accounts;
        bool is_worker = false; // takes snapshots at our order: "clear?" would wait for itself
    };

    // --- Effects
    void produce(const Place &, const AccountKey &, const Number &, const Record &) override;
    void settled(const AccountKey &, const Number &) override;
    size_t sealed_size(const Record &) const override;
    void send(ClientId, const AgentFrame &) override;
    void worker(const std::string &account, WorkerRequest, bool originate, WorkerDone) override;
    void publish(const std::string &kafka_key, const ControlValue &) override;
    void erase(const std::string &kafka_key) override;
    void log(Level level, const std::string &line) override { log_(level, line); }
    // --- Local
    const std::string &store() const override { return options_.settings.mailstore; }
    const Session &session() const override { return session_; }
    Result<EpochPlace> start_for_destination(const std::string &account, const std::string &destination) override;
    Result<EpochPlace> new_place(const std::string &account, uint64_t epoch) override;
    std::string promotion_problem(const std::string &account) const override;
    void look_for_unlogged(const std::string &account, std::function<void(const std::string &)> done) override;
    bool fence_read(const std::string &account, uint64_t epoch) const override;
    bool drained(const std::string &account) const override;
    Number applied(const std::string &account) const override;
    int64_t read_to(const Place &) const override;
    void flush(std::function<void(bool ok)>) override;
    bool open_read(const std::string &account, uint64_t epoch) const override;
    // --- AccountHost
    void read_from(const AccountKey &, const Place &, int64_t offset) override;
    void move_reader(const Place &);
    void out_of_range(const AccountKey &, const Place &, int64_t offset, int64_t first, int64_t end);
    Result<std::pair<int64_t, int64_t>> range_of(const Place &);
    Result<int64_t> end_of(const Place &);
    int64_t stored_offset(const Place &);
    const std::string &boot() const override { return options_.boot; }
    ShipSettings ship_settings() const override;
    void inspect_later(const AccountKey &) override;

    // --- starting and ending (agent.cpp)
    void begin();
    Result<void> start();
    Result<void> prepare_own_topic();
    Result<void> ensure_topic(const std::string &name, int partitions, bool compacted, bool known_elsewhere);
    void fail(const std::string &why);
    void finish_shut_down();
    void store_control_dirs();
    ControlService control_service();
    // --- the logs (agent_log.cpp)
    void on_message(Message &&);
    void on_control(Time now, const Message &);
    void on_record(Time now, const Message &);
    void on_place_error(const PlaceError &);
    void on_outcome(const Outcome &);
    uint64_t hand_to_producer(Pending);
    void offer(uint64_t token, Pending &);
    void produce_again(Time now);
    void watch_outages(Time now);
    void set_outage(Time now, const Place &, bool on);
    void bulk(const std::string &account, const std::string &encoded);
    void pace_bulk();
    uint64_t control_produce(const std::string &key, std::string value, const AccountKey &account);
    void quarantine(Time now, PlaceReader &, const std::string &line);
    void check_caught_up(const Place &);
    void look_again(const Place &);
    void stop_reading_for_nobody();
    Place own_place(const std::string &peer) const;
    Kafka::Reading reading(const Place &) const;
    // --- the accounts (agent_accounts.cpp)
    void control_was_read();
    void account_decided(Time now, const AccountKey &);
    Account *find(const AccountKey &);
    const Account *find(std::string_view name) const;
    void heartbeat(Time now);
    void check_heartbeat(const std::string &store);
    void tick();
    void snapshot_wanted(Time now);
    void awake(const AccountKey &key) {
        awake_.insert(key);
        touched_.insert(key);
    }
    void pause_busy(Time now, const Place &, PlaceReader &);
    void become_ready(Time now);
    void inspect_more();
    // --- flushing (agent_flush.cpp)
    struct FlushRound;
    void disk_failed(const std::string &why);
    void remember_disk(); // of a former life in this boot
    void flushed(FlushRound &, bool ok);
    bool store_positions(const FlushRound &);
    // --- the sockets (agent_clients.cpp, control_socket.cpp, dict_socket.cpp)
    void open_client(std::shared_ptr<Connection>);
    void client_frame(ClientId, Client &, const ClientFrame &);
    bool may_speak(const Client &, const Account &);
    void refuse(ClientId, const ClientFrame &, Reason, const std::string &text);
    void client_closed(ClientId);

    AgentOptions options_;
    Log log_;
    Session session_;
    Time started_ = std::chrono::steady_clock::now();
    Loop loop_;
    std::unique_ptr<Kafka> kafka_;
    std::unique_ptr<State> state_;
    std::unique_ptr<WorkerPool> workers_;
    Control control_;
    Operations operations_;
    Place control_place_;
    std::vector<std::shared_ptr<Loop::Timer>> timers_;

    std::unordered_map<AccountKey, std::unique_ptr<Account>> accounts_;
    std::unordered_map<AccountKey, std::string> stored_; // what the state holds of each account
    std::set<AccountKey> awake_;                         // something may be due
    std::set<AccountKey> touched_;                       // since their positions were stored
    std::set<AccountKey> state_pending_;                 // their published state is at the producer
    std::deque<AccountKey> to_inspect_;
    size_t inspecting_ = 0;
    std::set<AccountKey> incomplete_; // a destination of theirs wants something

    struct End {
        Time at{};
        int64_t offset = 0;
    };

    std::map<Place, PlaceReader> places_;
    std::map<Place, End> ends_;           // of places that are not read
    std::set<Place> doubtful_;            // the producer died: where they end is asked before anything is written there
    std::map<uint64_t, Pending> pending_; // by token
    std::map<std::pair<AccountKey, Number>, std::vector<uint64_t>> records_pending_;
    uint64_t next_token_ = 1, heartbeat_token_ = 0, heartbeat_counter_ = 0;
    size_t bulk_bytes_ = 0; // of snapshots, at the producer
    Time bulk_not_before_{};
    bool producer_dead_ = false, resend_ = false, bulk_paused_ = false, bulk_waits_ = false;
    bool control_end_reached_ = false, control_is_read_ = false, ready_ = false, shutting_down_ = false,
         flushing_ = false;
    int64_t control_next_ = 0, control_end_ = 0;
    Time query_again_at_{}, resend_at_{}, watch_at_{}, flush_not_before_{};
    int lock_fd_ = -1;
    Time shut_down_at_{};

    std::unordered_map<ClientId, std::unique_ptr<Client>> clients_;
    ClientId next_client_ = 1;
    std::vector<std::shared_ptr<Connection>> held_; // until the agent is ready
    std::vector<std::function<void(bool)>> flush_waiters_;
    std::set<std::string> warned_; // once each
    std::string failure_;
    std::string disk_problem_; // of the mails, until the next boot
};

} // namespace replica
