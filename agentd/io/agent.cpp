#include "agentd/io/agent.hpp"
#include "agentd/io/control_socket.hpp"
#include "agentd/io/dict_socket.hpp"
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace replica {

using namespace std::chrono_literals;

namespace {
constexpr auto lock_poll = 10ms;
constexpr auto start_retry = 1s;
constexpr auto broker_limit = 2s;
constexpr auto tick_period = 50ms;
constexpr auto flush_period = 5s;
constexpr auto unread_period = 60s;
constexpr auto snapshot_period = 1s; // a look at what destinations want, besides when they say so
constexpr auto settle_limit = 2s;    // a reload waits this long for what is unsettled
constexpr size_t envelope_room = 64u << 10;
constexpr const char *control_topic = "replica.control";
constexpr const char *changes_topic_prefix = "replica.changes.";
constexpr const char *retention_ms = "604800000"; // seven days

std::chrono::milliseconds silent_after(const Settings &settings) { return settings.heartbeat * 5; }

OperationSettings operation_settings(const Settings &settings) {
    OperationSettings operations;
    operations.heartbeat = settings.heartbeat;
    operations.silent_after = silent_after(settings);
    operations.admin = settings.admin;
    operations.wall_ms = [] {
        return static_cast<uint64_t>(
            std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
                .count());
    };
    return operations;
}
} // namespace

Agent::Agent(AgentOptions options, Log log)
    : options_(std::move(options)), log_(std::move(log)), session_(Session::from(random_bytes(8).data())),
      control_(options_.ring),
      operations_(control_, *this, options_.ring, operation_settings(options_.settings), *this), control_place_{
                                                                                                     control_topic,
                                                                                                     0} {}

Agent::~Agent() {
    if (lock_fd_ >= 0) close(lock_fd_);
}

Place Agent::own_place(
    const std::string &peer) const { // accounts with the same peer share a partition: it reads only what it needs
    auto hash = options_.ring.name_hash("partition", peer);
    uint32_t value = 0;
    for (int i = 0; i < 4; i++)
        value = value << 8 | static_cast<unsigned char>(hash[static_cast<size_t>(i)]);
    return {changes_topic_prefix + store(), static_cast<int32_t>(value % options_.settings.partitions)};
}

ShipSettings Agent::ship_settings() const {
    return {options_.settings.ack_timeout, options_.settings.record_bytes_max, session_};
}

Result<void> Agent::run() {
    loop_.post([this] { begin(); });
    loop_.run();
    clients_.clear();
    workers_.reset();
    kafka_.reset();
    if (!failure_.empty()) return Error{Code::invalid, failure_};
    return {};
}

void Agent::fail(const std::string &why) {
    failure_ = why;
    loop_.stop();
}

// The agent before us, after a reload, goes on until it has settled: only then is the lock ours.
void Agent::begin() {
    if (shutting_down_) return loop_.stop();
    if (lock_fd_ < 0) {
        std::string path = options_.settings.state_dir + "/agentd.lock";
        lock_fd_ = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        if (lock_fd_ < 0)
            return fail("replica_state_dir: " + path + ": " + std::strerror(errno) +
                        ": make the directory, owned by the agent's user, mode 0700");
    }
    if (flock(lock_fd_, LOCK_EX | LOCK_NB) != 0) return loop_.after(lock_poll, [this] { begin(); });
    if (!state_) started_ = std::chrono::steady_clock::now(); // before it, the wait was for the other agent
    // also while the brokers do not answer: clients are told so
    if (timers_.empty()) timers_.push_back(loop_.every(tick_period, [this] { tick(); }));
    if (auto started = start(); !started) {
        if (started.error().code != Code::retry) return fail(started.error().message);
        log_(Level::warning, "not serving yet: " + started.error().message);
        loop_.after(start_retry, [this] { begin(); });
    }
}

Result<void> Agent::start() {
    auto &settings = options_.settings;
    if (!state_) {
        auto state = State::open(settings.state_dir);
        if (!state) return state.error();
        state_ = std::move(*state);
        remember_disk();
    }
    if (!kafka_) {
        KafkaSettings kafka{settings.brokers, options_.kafka_properties, settings.record_bytes_max + (1u << 20)};
        Kafka::Handlers handlers;
        handlers.message = [this](Message &&m) { on_message(std::move(m)); };
        handlers.place_error = [this](const PlaceError &e) { loop_.post([this, e] { on_place_error(e); }); };
        handlers.outcome = [this](const Outcome &o) { on_outcome(o); };
        handlers.log = [this](int level, const std::string &text) {
            log_(level <= 3 ? Level::warning : Level::info, "kafka: " + text);
        };
        auto made = Kafka::create(kafka, std::move(handlers));
        if (!made) return made.error();
        kafka_ = std::move(*made);
        loop_.watch(kafka_->wake_fd(), [this] { kafka_->poll(); });
    }
    if (auto topic = ensure_topic(control_topic, 1, true, false); !topic) return topic.error();
    auto range = kafka_->offsets(control_place_, broker_limit);
    if (!range) return range.error();
    if (auto known = state_->read("c/end"); known && range->second < std::stoll(*known))
        return Error{Code::invalid, "damaged: the control log ends at offset " + std::to_string(range->second) +
                                        ", but was known up to " + *known +
                                        ": restore the brokers, or empty replica_state_dir to begin anew"};
    if (!workers_) {
        WorkerPool::Handlers handlers;
        handlers.lost = [this](size_t applier) {
            auto now = std::chrono::steady_clock::now();
            for (auto &[key, account] : accounts_)
                if (workers_->applier_of(account->name()) == applier) account->worker_lost(now), awake(key);
        };
        handlers.bulk = [this](const std::string &account, const std::string &encoded) { bulk(account, encoded); };
        handlers.warn = [this](const std::string &line) { log_(Level::warning, line); };
        workers_ = std::make_unique<WorkerPool>(
            loop_, WorkerPool::Settings{options_.worker_socket, settings.apply_workers, 1}, std::move(handlers));
    }
    control_next_ = range->first;
    control_end_ = range->second;
    kafka_->assign(control_place_, range->first);
    if (control_next_ >= control_end_) {
        control_end_reached_ = true;
        control_was_read();
    }
    timers_.push_back(loop_.every(settings.heartbeat, [this] { heartbeat(std::chrono::steady_clock::now()); }));
    timers_.push_back(loop_.every(snapshot_period, [this] { snapshot_wanted(std::chrono::steady_clock::now()); }));
    timers_.push_back(loop_.every(flush_period, [this] { flush([](bool) {}); }));
    timers_.push_back(loop_.every(unread_period, [this] { stop_reading_for_nobody(); }));
    return {};
}

// A store that has shown its heartbeat had a topic, whatever its state directory knows.
Result<void> Agent::prepare_own_topic() {
    return ensure_topic(changes_topic_prefix + store(), static_cast<int>(options_.settings.partitions), false,
                        control_.store(store()) != nullptr);
}

// A topic is made only if nobody ever knew it: one that was known and is gone has lost what was acknowledged.
Result<void> Agent::ensure_topic(const std::string &name, int partitions, bool compacted, bool known_elsewhere) {
    auto &settings = options_.settings;
    auto topic = kafka_->describe_topic(name, broker_limit);
    bool known = static_cast<bool>(state_->read("t/" + name));
    if (!topic && topic.error().code == Code::gone) {
        if (known || known_elsewhere)
            return Error{Code::invalid, "damaged: topic " + name +
                                            " was there and is gone: restore the brokers, or make it by hand: "
                                            "then the accounts that were logged there are damaged, each by name"};
        Kafka::Topic wanted{name, partitions, static_cast<int>(settings.replication_factor), {}};
        wanted.config = {{"min.insync.replicas", std::to_string(settings.min_insync)},
                         {"unclean.leader.election.enable", "false"},
                         {"max.message.bytes", std::to_string(settings.record_bytes_max + (1u << 20))},
                         {"cleanup.policy", compacted ? "compact" : "delete"}};
        if (!compacted) wanted.config["retention.ms"] = retention_ms;
        if (auto created = kafka_->create_topic(wanted, broker_limit); !created) return created.error();
        log_(Level::info, "topic=" + name + " partitions=" + std::to_string(partitions) + ": created");
        return Error{Code::retry, "topic " + name + " was just created"};
    }
    if (!topic) return topic.error();
    if (!known) {
        if (auto written = state_->write({{"t/" + name, "1"}}); !written) return written.error();
    }
    if (topic->partitions < partitions)
        return Error{Code::invalid, "topic " + name + " has " + std::to_string(topic->partitions) +
                                        " partitions, replica_partitions asks for " + std::to_string(partitions)};
    if (auto limit = topic->config.find("max.message.bytes");
        limit != topic->config.end() && std::stoull(limit->second) < settings.record_bytes_max + envelope_room)
        return Error{Code::invalid, "topic " + name + ": max.message.bytes=" + limit->second +
                                        " does not take records of replica_record_bytes_max=" +
                                        std::to_string(settings.record_bytes_max) +
                                        ": raise the one or lower the other"};
    auto insync = topic->config.find("min.insync.replicas");
    if (topic->replication_factor < 2 && warned_.insert(name).second)
        log_(Level::warning,
             "topic=" + name +
                 ": one broker holds each record: what it loses with its disk is lost (fine for a trial)");
    else if (insync != topic->config.end() && std::stoul(insync->second) < settings.min_insync &&
             warned_.insert(name).second)
        log_(Level::warning, "topic=" + name + ": min.insync.replicas=" + insync->second +
                                 " is below replica_min_insync=" + std::to_string(settings.min_insync) +
                                 ": an acknowledged change may be on fewer brokers than asked for");
    if (auto unclean = topic->config.find("unclean.leader.election.enable");
        unclean != topic->config.end() && unclean->second == "true" && warned_.insert(name + "/unclean").second)
        log_(Level::warning,
             "topic=" + name +
                 ": unclean.leader.election.enable=true: a broker may drop what was acknowledged: set it to false");
    return {};
}

ControlService Agent::control_service() {
    StatusSettings status{store(), silent_after(options_.settings),
                          [this](const AccountKey &key) -> std::optional<Number> {
                              auto *account = find(key);
                              if (!account || account->position().none()) return std::nullopt;
                              return account->position();
                          },
                          [this](const AccountKey &key, const Number &number) -> std::optional<Time> {
                              auto *account = find(key);
                              return account ? account->first_after(number) : std::nullopt;
                          }};
    return {control_, operations_, loop_, options_.ring, std::move(status), control_is_read_, started_};
}

void Agent::handle_connection(SocketKind kind, int fd) {
    loop_.post([this, kind, fd] {
        auto connection = loop_.adopt(fd);
        if (kind == SocketKind::control) return serve_control(connection, control_service());
        if (kind == SocketKind::dict) return serve_dict(connection, control_);
        if (shutting_down_) return connection->close();
        if (ready_)
            open_client(std::move(connection));
        else
            held_.push_back(std::move(connection));
    });
}

void Agent::shut_down() {
    loop_.post([this] {
        if (shutting_down_) return;
        shutting_down_ = true;
        shut_down_at_ = std::chrono::steady_clock::now() + settle_limit;
        if (!ready_) return loop_.stop();
        finish_shut_down();
    });
}

} // namespace replica
