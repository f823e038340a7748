#include "agentd/io/control_socket.hpp"
#include "agentd/core/status.hpp"
#include "agentd/io/lines.hpp"
#include <algorithm>
#include <charconv>
#include <set>

namespace replica {

using namespace std::chrono_literals;

namespace {
constexpr size_t line_bytes_max = 64u << 20;
constexpr auto watch_period = 50ms;
constexpr auto begin_limit = 15s; // for the brokers to take a new operation

struct CommandSession : std::enable_shared_from_this<CommandSession> {
    std::shared_ptr<Connection> connection;
    ControlService service;
    LineSplitter lines{line_bytes_max};
    bool greeted = false, commanded = false, wait_for_end = false;
    std::vector<Guid> operations;
    std::set<Guid> ended;
    std::shared_ptr<Loop::Timer> watch;
    Time watched_since{};
    std::string problems, done;

    CommandSession(std::shared_ptr<Connection> c, const ControlService &s) : connection(std::move(c)), service(s) {}

    void start() {
        auto self = shared_from_this();
        connection->start({[self](std::string_view bytes) { self->received(bytes); }, [self] { self->watch.reset(); }});
    }
    void received(std::string_view bytes) {
        bool good = lines.feed(bytes, [&](std::string_view line) { return command(tab_fields(line)); });
        if (!good)
            fail("this is not the replica-control protocol, version 1: the doveadm module and agentd are of different "
                 "releases");
    }
    void end(const std::string &line) {
        watch.reset();
        connection->send(line);
        connection->close_when_sent();
    }
    void fail(const std::string &why) { end(tab_line({"-", why})); }

    bool command(const std::vector<std::string> &fields) {
        if (!greeted)
            return greeted = fields.size() >= 3 && fields[0] == "VERSION" && fields[1] == "replica-control" &&
                             fields[2] == "1";
        if (std::exchange(commanded, true)) return true;
        std::vector<std::string> args(fields.begin() + 1, fields.end());
        args.resize(std::max<size_t>(args.size(), 3));
        std::function<void(Time)> task;
        bool changes = fields[0] == "set" || fields[0] == "remove" || fields[0] == "promote";
        if (changes) task = [this, fields](Time now) { begin(now, fields); };
        if (fields[0] == "status") task = [this, args](Time now) { accounts(now, args[0], args[1], args[2]); };
        if (fields[0] == "operations") task = [this](Time) { shown_operations(); };
        if (fields[0] == "stores") task = [this](Time now) { stores(now); };
        if (!task) return false;
        once_ready(changes, std::move(task));
        return true;
    }
    // Why a command has to wait, or empty. Our own heartbeats come back through the control log: an operation handed to
    // brokers that are away would begin when they return, long after somebody was told that it failed.
    std::string waits_for(Time now, bool changes) const {
        if (!service.ready) return "the agent has not read the control log yet: are the brokers reachable?";
        auto *own = service.control.store(service.status.self);
        if (!changes || (own && now - own->seen <= service.status.silent_after)) return {};
        return "nothing was done: the brokers do not answer.";
    }
    bool may_hear_more(Time now) const {
        auto stores = service.control.stores();
        return now - service.started <= service.status.silent_after &&
               std::ranges::any_of(stores, [](auto *store) { return store->seen == Time{}; });
    }
    void once_ready(bool changes, std::function<void(Time)> task) {
        watched_since = std::chrono::steady_clock::now();
        auto look = [this, changes, task = std::move(task)] {
            auto now = std::chrono::steady_clock::now();
            auto why = waits_for(now, changes);
            if (why.empty() ? changes && may_hear_more(now) : now - watched_since <= service.status.silent_after)
                return;
            auto this_call = std::exchange(watch, nullptr);
            if (why.empty()) return task(now);
            fail(why + " See the agent's log lines");
        };
        watch = service.loop.every(watch_period, look);
        service.loop.post([self = shared_from_this(), look] {
            if (self->watch) look();
        });
    }
    void begin(Time now, const std::vector<std::string> &fields) {
        auto arg = [&](size_t i) { return fields.size() > i ? fields[i] : std::string(); };
        auto rest = [&](size_t from) {
            return fields.size() > from ? std::vector(fields.begin() + static_cast<long>(from), fields.end())
                                        : std::vector<std::string>();
        };
        if (fields[0] == "set") return set(now, arg(1), arg(2), rest(3));
        if (fields[0] == "remove") return begun(service.operations.remove(now, arg(1), rest(2)), true);
        promoted(service.operations.promote(now, arg(1), arg(2), rest(4), arg(3) == "1"));
    }
    void set(Time now, const std::string &store, const std::string &priority_text,
             const std::vector<std::string> &accounts) {
        uint32_t priority = 0;
        auto [end_of_number, error] =
            std::from_chars(priority_text.data(), priority_text.data() + priority_text.size(), priority);
        if (error != std::errc() || end_of_number != priority_text.data() + priority_text.size())
            return fail("priority `" + priority_text + "` is not a whole number: write 0 or more, lower is first");
        begun(service.operations.set(now, store, priority, accounts), false);
    }
    void begun(const Result<Guid> &operation, bool until_end) {
        if (!operation) return fail(operation.error().message);
        follow({*operation}, until_end);
    }
    void promoted(const Result<std::vector<Guid>> &begun_operations) {
        if (!begun_operations) return fail(begun_operations.error().message);
        follow(*begun_operations, true);
    }
    // The operations are seen through the control log, as any agent sees them.
    void follow(std::vector<Guid> begun_operations, bool until_end) {
        operations = std::move(begun_operations);
        wait_for_end = until_end;
        watched_since = std::chrono::steady_clock::now();
        watch = service.loop.every(watch_period, [self = weak_from_this()] {
            if (auto session = self.lock()) session->look();
        });
    }
    void look() {
        for (auto &id : operations) {
            auto *operation = service.control.operation(id);
            if (!operation && std::chrono::steady_clock::now() - watched_since > begin_limit)
                return fail("the brokers have not taken the operation yet: it begins when they do, "
                            "`doveadm replica operations` shows it");
            if (!operation || ended.contains(id)) continue;
            bool through = operation->phase == OperationPhase::done || operation->phase == OperationPhase::failed ||
                           (!wait_for_end && operation->phase == OperationPhase::running);
            if (!through) continue;
            ended.insert(id);
            (operation->phase == OperationPhase::failed ? problems : done) +=
                (ended.size() > 1 ? "\n" : "") + operation->result;
        }
        if (ended.size() < operations.size()) return;
        if (!problems.empty()) return fail(problems);
        end(tab_line({"+", done}));
    }
    using Row = std::vector<std::string>;
    static std::string text(uint64_t n) { return std::to_string(n); }
    static std::string text(const std::optional<uint64_t> &n) { return n ? std::to_string(*n) : std::string(); }
    static std::string yes_no(bool yes) { return yes ? "yes" : "no"; }
    void show(Row columns, const std::vector<Row> &rows) {
        columns.insert(columns.begin(), "H");
        std::string out = tab_line(columns);
        for (auto row : rows) {
            row.insert(row.begin(), "R");
            out += tab_line(row);
        }
        end(out + tab_line({"+", ""}));
    }
    void accounts(Time now, const std::string &mail_host, const std::string &replica_server,
                  const std::string &availability) {
        AccountFilter filter{mail_host, replica_server, {}};
        if (availability == "available" || availability == "unavailable")
            filter.available = availability == "available";
        else if (!availability.empty())
            return fail("replicaStatus is `available` or `unavailable`, not `" + availability + "`");
        std::vector<Row> rows;
        for (auto &s : account_status(service.control, service.ring, now, service.status, filter))
            rows.push_back({s.account, s.source, text(s.epoch), std::string(to_string(s.state)), s.destination,
                            text(s.priority), yes_no(s.available), s.reason, s.phase, to_string(s.position),
                            text(s.lag_changes), text(s.lag_seconds), text(s.mails_done), text(s.mails_total),
                            text(s.wanted)});
        show({"account", "mailHost", "epoch", "state", "replicaServer", "priority", "available", "reason", "phase",
              "position", "lag_changes", "lag_seconds", "mails_done", "mails_total", "wanted"},
             rows);
    }
    void shown_operations() {
        std::vector<Row> rows;
        for (auto &o : operation_status(service.control, service.ring))
            rows.push_back({o.id, o.kind, o.phase, o.driver, o.target, text(o.accounts), text(o.accounts_done),
                            text(o.started_ms / 1000), text(o.finished_ms / 1000), o.result});
        show({"operation", "kind", "phase", "driver", "target", "accounts", "done", "started", "finished", "result"},
             rows);
    }
    void stores(Time now) {
        std::vector<Row> rows;
        for (auto &s : store_status(service.control, service.ring, now, service.status))
            rows.push_back({s.store, yes_no(s.alive), text(s.silent_seconds), yes_no(s.same_keys), s.host, s.address,
                            s.version, text(s.accounts_source), text(s.accounts_destination)});
        show({"store", "alive", "silent_seconds", "same_keys", "host", "address", "version", "source_of",
              "destination_of"},
             rows);
    }
};
} // namespace

void serve_control(std::shared_ptr<Connection> connection, const ControlService &service) {
    std::make_shared<CommandSession>(std::move(connection), service)->start();
}

} // namespace replica
