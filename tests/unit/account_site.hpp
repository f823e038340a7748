// Stores around real Accounts over logs in memory: each has an index that a flush makes durable, fake workers that keep
// R2 and R3, and the least shell that feeds records and stores positions as the agent does. One step at a time, so that
// a test decides when a store dies.
#pragma once
#include "agentd/core/account.hpp"
#include "tests/unit/core_effects.hpp"
#include <algorithm>

namespace replica::test {

using namespace std::chrono_literals;
inline const AccountKey account_key{};

struct Index {
    struct Box {
        Mark mark;
        std::vector<std::string> content;
        bool operator==(const Box &) const = default;
    };
    std::map<Object, Box> boxes;
};

struct World {
    Time now{1000s};
    std::map<Place, std::vector<Entry>> logs;
    AccountRecord record;
    std::map<SnapshotId, std::vector<std::string>> frozen;
    std::vector<std::pair<Object, std::string>> acknowledged;
    uint64_t lives = 0;

    int64_t end(const Place &place) { return static_cast<int64_t>(logs[place].size()); }
    void append(const Place &place, Entry entry) {
        entry.place = place;
        entry.offset = end(place);
        logs[place].push_back(std::move(entry));
    }
    void fence(const Place &place, uint64_t epoch) {
        Entry entry{place, 0, account_key, {epoch, 0}, {}, {}};
        entry.record.kind = RecordKind::fence;
        append(place, entry);
    }
    void open(const Place &place, uint64_t epoch, const Number &previous) {
        Entry entry{place, 0, account_key, {epoch, 0}, {}, {}};
        entry.record.kind = RecordKind::open;
        entry.record.open = Open{previous, place};
        append(place, entry);
    }
};

class Site final : public Effects, public AccountHost {
public:
    Site(World &world, std::string name) : world_(world), name_(std::move(name)), place_{"log." + name_, 0} {}

    const Place &place() const { return place_; } // of its own
    Index memory, disk;
    std::unique_ptr<Account> account;
    std::vector<std::string> logged;
    std::vector<std::pair<ClientId, AgentFrame>> sent;
    std::map<Object, Verdict> answers; // instead of what the worker would say
    bool workers_answer = true, delivers = true, mail_processes_live = true;
    Role role = Role::none;
    std::string boot_id = "boot";

    void start() {
        uint64_t life = ++world_.lives;
        session_ = Session::from(&life);
        account = std::make_unique<Account>("u", account_key, *this, *this);
        if (stored_) {
            StoredAccount restored = *decode<StoredAccount>(*stored_);
            if (restored.offset == StoredAccount::of_place) restored.offset = places_[restored.place];
            account->restore(restored);
        }
        if (world_.record.version > 0) tell();
    }
    void tell() { account->record(world_.now, world_.record); }
    void kill() {
        account.reset();
        requests_.clear();
        readers_.clear();
        produced_.clear();
        clients_.clear();
    }
    void lose_power() {
        kill();
        memory = disk;
    }
    void lose_memory() { lose_power(), stored_.reset(), places_.clear(); } // replica_state_dir, too

    bool step() {
        if (!account) return false;
        return deliver() || move_readers() || read_one() || serve_one() || finish_caught_up();
    }
    void settle() { // all that needs no time
        while (step() || ticked())
            ;
    }
    void pass(std::chrono::milliseconds time) {
        world_.now += time;
        account->tick(world_.now);
        settle();
    }
    // As the agent: what may be stored is taken first, then the indexes are made durable, then it is stored.
    void flush() {
        auto stored = account->storable();
        auto offsets = places_;
        for (auto &[place, reader] : readers_)
            offsets[place] = reader.next;
        disk = memory;
        stored_ = stored ? std::optional(encode(*stored)) : std::nullopt;
        places_ = offsets;
        account->stored();
    }
    std::optional<StoredAccount> stored() const {
        if (!stored_) return {};
        return *decode<StoredAccount>(*stored_);
    }

    // A mail process: the call-out, and the commit once it is acknowledged. None: it waits.
    std::optional<Reason> change(const Object &object, const std::string &payload,
                                 ChangeKind kind = ChangeKind::mailbox, const Guid &subject = {}) {
        ClientId id = ++next_client_;
        Change change{object, kind, subject, memory.boxes[object].mark.number, payload};
        offer(id, change);
        settle();
        return outcome(id);
    }
    ClientId offer(ClientId id, const Change &change) {
        clients_[id] = change;
        if (!account->ship()) return refused_[id] = Reason::not_source, id;
        account->ship()->change(world_.now, id, ChangeFrame{id, "u", change});
        return id;
    }
    std::optional<Reason> outcome(ClientId id) const {
        auto found = refused_.find(id);
        return found == refused_.end() ? std::nullopt : std::optional(found->second);
    }
    Reason clear(const Object &object) {
        ClientId id = ++next_client_;
        if (!account->ship()) return Reason::not_source;
        account->ship()->clear(world_.now, id, Clear{id, "u", object, memory.boxes[object].mark});
        settle();
        return refused_.contains(id) ? refused_[id] : Reason::unavailable;
    }
    DestinationState state() const {
        DestinationState described;
        if (account->follow()) account->follow()->describe(described);
        described.store = name_;
        return described;
    }
    bool logs(std::string_view text) const {
        return std::ranges::any_of(logged, [&](auto &line) { return line.find(text) != line.npos; });
    }
    int reads() const { return reads_; }

    // --- AccountHost
    const std::string &store() const override { return name_; }
    const std::string &boot() const override { return boot_id; }
    void read_from(const AccountKey &, const Place &place, int64_t offset) override {
        asked_[place] = offset;
        reads_++;
    }
    ShipSettings ship_settings() const override { return {.session = session_}; }
    void inspect_later(const AccountKey &) override { inspects++; }
    int inspects = 0;

    // --- Effects
    void produce(const Place &place, const AccountKey &key, const Number &number, const Record &record) override {
        produced_.push_back({place, 0, key, number, session_, record});
    }
    void settled(const AccountKey &, const Number &number) override {
        std::erase_if(produced_, [&](auto &entry) { return entry.number == number; });
        settled_numbers.push_back(number);
    }
    std::vector<Number> settled_numbers;
    size_t sealed_size(const Record &record) const override { return encode(record).size(); }
    void send(ClientId client, const AgentFrame &frame) override;
    void worker(const std::string &, WorkerRequest request, bool, WorkerDone done) override {
        requests_.push_back({std::move(request), std::move(done)});
    }
    void publish(const std::string &, const ControlValue &) override {}
    void erase(const std::string &) override {}
    void log(Level, const std::string &line) override { logged.push_back(line); }

private:
    struct Reader {
        int64_t next = 0, caught_up_at = 0;
        bool waiting = false;
    };
    struct Request {
        WorkerRequest request;
        WorkerDone done;
    };
    struct Collecting {
        SnapshotId id;
        Number number;
        std::vector<NumberedChange> later;
    };

    bool deliver() {
        if (!delivers || produced_.empty()) return false;
        Entry entry = produced_.front();
        produced_.pop_front();
        Place to = entry.place;
        world_.append(to, std::move(entry));
        return true;
    }
    bool move_readers() {
        if (asked_.empty()) return false;
        for (auto &[place, offset] : std::exchange(asked_, {})) {
            if (offset > world_.end(place)) {
                account->unreadable("damaged: the log ends");
                continue;
            }
            auto found = readers_.find(place);
            if (found == readers_.end()) found = readers_.emplace(place, Reader{offset, 0, false}).first;
            found->second.next = std::min(found->second.next, offset);
            found->second.caught_up_at = std::max(found->second.caught_up_at, world_.end(place));
            found->second.waiting = true;
        }
        return true;
    }
    bool read_one() {
        for (auto &[place, reader] : readers_) {
            if (reader.next >= world_.end(place) || account->busy()) continue;
            Entry entry = world_.logs[place][static_cast<size_t>(reader.next++)];
            account->entry(world_.now, entry);
            return true;
        }
        return false;
    }
    bool finish_caught_up() {
        for (auto &[place, reader] : readers_)
            if (reader.waiting && reader.next >= reader.caught_up_at) {
                reader.waiting = false;
                account->caught_up(world_.now, place);
                return true;
            }
        return false;
    }
    // True if a tick made something to do.
    bool ticked() {
        if (!account) return false;
        account->tick(world_.now);
        return !asked_.empty() || (workers_answer && !requests_.empty()) || (delivers && !produced_.empty());
    }
    bool serve_one() {
        if (!workers_answer || requests_.empty()) return false;
        Request request = std::move(requests_.front());
        requests_.pop_front();
        serve(request);
        return true;
    }
    void serve(Request &);
    Verdict apply(const NumberedChange &);
    Verdict apply_list(const NumberedChange &);
    AccountFacts facts() const;

    World &world_;
    std::string name_;
    Place place_;
    Session session_;
    std::optional<std::string> stored_;
    std::map<Place, int64_t> places_, asked_;
    std::map<Place, Reader> readers_;
    std::deque<Entry> produced_;
    std::deque<Request> requests_;
    std::map<ClientId, Change> clients_;
    std::map<ClientId, Reason> refused_;
    std::map<ClientId, WorkerDone> snapshots_;
    std::map<Object, Collecting> collecting_;
    ClientId next_client_ = 0;
    int reads_ = 0;
};

inline void Site::send(ClientId client, const AgentFrame &frame) {
    sent.emplace_back(client, frame);
    if (auto *answer = std::get_if<Answer>(&frame)) refused_[client] = answer->reason;
    if (auto *refused = std::get_if<Refused>(&frame)) refused_[client] = refused->reason;
    auto *ack = std::get_if<Ack>(&frame);
    if (!ack || !mail_processes_live) return;
    Change change = clients_.at(client);
    auto &box = memory.boxes[change.object];
    box.mark = {ack->number, false};
    if (change.kind == ChangeKind::mailbox) box.content.push_back(change.payload);
    if (change.kind == ChangeKind::list_create) memory.boxes[{"", change.subject}].mark = {ack->number};
    if (change.kind == ChangeKind::mailbox) world_.acknowledged.emplace_back(change.object, change.payload);
    refused_[client] = Reason::none;
    account->ship()->done(world_.now, client, Done{client});
    auto snapshot = snapshots_.find(client);
    if (snapshot == snapshots_.end()) return;
    if (change.kind == ChangeKind::snapshot) {
        Record record;
        record.kind = RecordKind::bulk;
        Bulk bulk{change.object, decode<SnapshotChange>(change.payload)->id, 0, Bulk::Head{1, 1, 1, 1, {}}, {},
                  Bulk::Sum{}};
        world_.frozen[bulk.id] = box.content;
        record.bulk = encode(bulk);
        produced_.push_back({account->reading(), 0, account_key, {ack->number.epoch, 0}, session_, record});
    }
    auto done = std::move(snapshot->second);
    snapshots_.erase(snapshot);
    done(Reply{.number = ack->number});
}

inline AccountFacts Site::facts() const {
    AccountFacts facts;
    facts.exists = true;
    facts.user = "u";
    facts.uid = "1000";
    facts.mail_root = "/mail/u";
    facts.device = 1;
    for (auto &[object, box] : memory.boxes)
        facts.objects.push_back({object, {}, box.mark, box.content.size(), 1});
    return facts;
}

inline void Site::serve(Request &request) {
    Reply reply;
    if (auto *set = std::get_if<SetRole>(&request.request)) {
        role = set->role;
        reply.facts = facts();
        reply.facts->objects.clear();
    } else if (std::holds_alternative<Inspect>(request.request)) {
        reply.facts = facts();
    } else if (auto *batch = std::get_if<Apply>(&request.request)) {
        for (auto &change : batch->changes) {
            auto other = answers.find(change.change.object);
            reply.changes.push_back(other != answers.end() ? other->second : apply(change));
            reply.verdict = reply.changes.back();
            if (reply.verdict == Verdict::retry || reply.verdict == Verdict::failed ||
                reply.verdict == Verdict::diverged)
                break;
        }
    } else if (auto *build = std::get_if<Build>(&request.request)) {
        auto open = collecting_.extract(build->object);
        memory.boxes[build->object] = {{build->number}, world_.frozen.at(build->snapshot)};
        for (auto &later : open.mapped().later)
            reply.verdict = apply(later);
    } else if (auto *mailbox = std::get_if<SnapshotMailbox>(&request.request)) {
        ClientId id = ++next_client_;
        snapshots_[id] = std::move(request.done);
        Mark mark = memory.boxes[mailbox->object].mark;
        offer(id, {mailbox->object,
                   ChangeKind::snapshot,
                   {},
                   mark.number,
                   encode(SnapshotChange{mailbox->snapshot, mark.unlogged})});
        return;
    } else if (auto *list = std::get_if<SnapshotList>(&request.request)) {
        ClientId id = ++next_client_;
        snapshots_[id] = std::move(request.done);
        Object object{list->ns_prefix, {}};
        ListSnapshot names;
        for (auto &[each, box] : memory.boxes)
            if (!each.is_list()) names.mailboxes.push_back({each.mailbox, {to_hex(each.mailbox)}, 1});
        offer(id, {object, ChangeKind::list_snapshot, {}, memory.boxes[object].mark.number, encode(names)});
        return;
    }
    request.done(reply);
}

inline Verdict Site::apply(const NumberedChange &numbered) {
    auto &[number, change] = numbered;
    if (change.object.is_list()) return apply_list(numbered);
    if (!memory.boxes.contains(change.object)) return Verdict::list_wanted;
    if (auto open = collecting_.find(change.object); open != collecting_.end() && change.kind == ChangeKind::mailbox) {
        open->second.later.push_back(numbered);
        return Verdict::applied;
    }
    auto &box = memory.boxes[change.object];
    bool source = role == Role::source;
    if (change.kind == ChangeKind::snapshot) {
        auto snapshot = decode<SnapshotChange>(change.payload);
        if (number <= box.mark.number) return Verdict::skipped;
        if (source || (box.mark.number == change.previous && !box.mark.number.none() && !snapshot->unlogged)) {
            box.mark = {number};
            return Verdict::applied;
        }
        collecting_[change.object] = {snapshot->id, number, {}};
        return Verdict::wanted;
    }
    switch (judge_chain(box.mark, change.previous, number)) {
    case Chain::skip:
        return Verdict::skipped;
    case Chain::wanted:
        return Verdict::wanted;
    case Chain::diverged:
        return Verdict::diverged;
    case Chain::apply:
        break;
    }
    box.mark = {number};
    box.content.push_back(change.payload);
    return Verdict::applied;
}

inline Verdict Site::apply_list(const NumberedChange &numbered) {
    auto &[number, change] = numbered;
    auto &list = memory.boxes[change.object];
    if (number <= list.mark.number) return Verdict::skipped;
    if (change.kind == ChangeKind::list_create) {
        if (list.mark.number != change.previous) return Verdict::wanted;
        memory.boxes[{"", change.subject}].mark = {number};
    } else if (change.kind == ChangeKind::list_snapshot && role != Role::source) {
        auto names = decode<ListSnapshot>(change.payload);
        for (auto &mailbox : names->mailboxes)
            memory.boxes[Object{"", mailbox.mailbox}];
    }
    memory.boxes[change.object].mark = {number};
    return Verdict::applied;
}

} // namespace replica::test
