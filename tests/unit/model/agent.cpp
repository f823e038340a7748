// The least shell around Ship and Follow, as design sections 3 to 6 ask for it.
#include "tests/unit/model/world.hpp"

namespace replica::model {

static const AccountKey account_key{};

void Agent::start() {
    const Stored &stored = world_.stores[static_cast<size_t>(store_)].stored;
    alive = true;
    life = ++world_.ids;
    session = Session::from(&life);
    world_.tell(store_, "agent starts, life " + std::to_string(life) + ", at " + to_string(stored.position) +
                            " offset " + std::to_string(stored.offset) + " of " + std::to_string(stored.place));
    reader = std::make_unique<LogReader>(stored.position, stored.opened, Place{place_name(stored.place), 0});
    offset_ = stored.offset;
    fence_.reset();
    crossed_ = false;
    last_snapshot_.clear();
    bool source = world_.control.active && world_.control.source == store_ && stored.opened &&
                  stored.position.epoch == world_.control.epoch;
    if (source)
        begin_ship();
    else
        follow_from({stored.position, stored.wants_everything, stored.wanted});
}

void Agent::crash() {
    world_.tell(store_, "agent crashes");
    alive = false;
    life = 0;
    ship.reset();
    follow.reset();
    unsettled_.clear();
    for (auto &[id, client] : world_.clients)
        if (client.store == store_) client.agent_gone = true;
}

void Agent::begin_ship() {
    ++machine_;
    follow.reset();
    ship = std::make_unique<Ship>("u", account_key, ShipSettings{.session = session}, *this);
    ship_open_ = false;
    read_to_first_ = log().size();
}

void Agent::follow_from(const Follow::Start &start) {
    ++machine_;
    ship.reset();
    follow = std::make_unique<Follow>("u", account_key, start, *this);
}

int Agent::place() const { return std::stoi(reader->place().topic.substr(place_name(0).size() - 1)); }
const std::vector<Entry> &Agent::log() const { return world_.logs[static_cast<size_t>(place())]; }
bool Agent::at_end() const { return offset_ >= log().size(); }

void Agent::read_one() {
    if (gap || fence_ || (follow && follow->full()) || (ship && ship->full())) return;
    if (ship && !ship_open_ && offset_ >= read_to_first_) {
        ship_open_ = true;
        ship->open(world_.now, reader->position(), reader->place());
    }
    if (at_end()) return;
    const Entry entry = log()[offset_++];
    switch (reader->judge(entry)) {
    case LogReader::Judgement::counts:
        if (entry.record.kind == RecordKind::open) crossed_ = false;
        for (const auto &change : entry.record.changes) {
            last_number_[change.object] = entry.number;
            if (change.kind == ChangeKind::snapshot || change.kind == ChangeKind::list_snapshot)
                last_snapshot_[change.object] = entry.number;
        }
        if (follow) follow->counted(world_.now, entry);
        if (ship && !(world_.bug == Bug::ack_on_delivery && entry.session == session)) ship->counted(world_.now, entry);
        break;
    case LogReader::Judgement::bulk:
        if (follow) follow->bulk(world_.now, entry);
        break;
    case LogReader::Judgement::fence:
        if (ship) return demote(offset_ - 1);
        fence_ = Fence{place(), offset_ - 1};
        follow->fenced(world_.now);
        break;
    case LogReader::Judgement::gap:
        gap = true;
        if (ship) ship->close(Reason::stopped, "gap");
        if (follow) follow->stop("the log has a gap");
        break;
    case LogReader::Judgement::ignored:
        break;
    }
}

// Another store is the source now: what counts and is not in the indexes is applied as at any destination.
void Agent::demote(size_t fence_at) {
    ship->close(Reason::not_source, "promoted elsewhere");
    const Stored &stored = world_.stores[static_cast<size_t>(store_)].stored;
    Number settled = ship_open_ ? ship->settled() : stored.position;
    offset_ = ship_open_ ? static_cast<size_t>(ship->oldest_unsettled_offset().value_or(static_cast<int64_t>(fence_at)))
                         : stored.offset;
    reader = std::make_unique<LogReader>(settled, true, Place(reader->place()));
    follow_from({settled, false, {}});
}

void Agent::cross_if_ready() {
    if (!fence_ || !follow || !follow->idle()) return;
    auto next = world_.control.places.upper_bound(reader->epoch());
    if (next == world_.control.places.end()) return;
    cross(next->first);
}

void Agent::cross(uint64_t epoch) {
    const auto &next = world_.control.places.at(epoch);
    if (!crossed_)
        restart_ = fence_.value_or(Fence{place(), offset_}); // an epoch that had no OPEN is only passed through
    crossed_ = true;
    fence_.reset();
    reader->cross({epoch, Place{place_name(next.store), 0}});
    offset_ = next.offset;
}

void Agent::tick() {
    if (ship) ship->tick(world_.now);
    if (follow) follow->tick(world_.now);
    cross_if_ready();
    bool source = world_.control.active && world_.control.source == store_ && reader->opened() &&
                  reader->epoch() == world_.control.epoch;
    if (source && follow && follow->idle() && !gap) begin_ship();
}

bool Agent::drained() const {
    if (!follow || !follow->idle() || gap) return false;
    if (world_.bug == Bug::no_fence_read_back && at_end() && !fence_) return true;
    return reader->epoch() == world_.control.epoch && !reader->opened();
}

Stored Agent::storable() const {
    if (ship)
        return {ship->settled(),
                true,
                place(),
                static_cast<size_t>(ship->oldest_unsettled_offset().value_or(static_cast<int64_t>(offset_))),
                false,
                {}};
    DestinationState state;
    follow->describe(state);
    const auto &wanted = follow->wanted();
    Stored stored{
        follow->storable(), reader->opened(), place(), offset_, state.wants_everything, {wanted.begin(), wanted.end()}};
    if (auto oldest = follow->oldest_needed()) {
        stored.opened = true;
        stored.offset = static_cast<size_t>(oldest->second);
    } else if (fence_ || crossed_) { // the fence is read again
        const Fence &fence = crossed_ ? restart_ : *fence_;
        stored.opened = true;
        stored.place = fence.place;
        stored.offset = fence.offset;
    }
    return stored;
}

void Agent::flush_and_store(bool power_fails_between) {
    if ((ship && !ship_open_) || gap) return;
    Store &store = world_.stores[static_cast<size_t>(store_)];
    Stored stored = storable();
    if (world_.bug == Bug::offset_before_flush) {
        store.stored = stored;
        if (!power_fails_between) store.disk = store.memory;
        return;
    }
    store.disk = store.memory;
    if (!power_fails_between) store.stored = stored;
    world_.tell(store_, "flush, at " + to_string(stored.position) + (power_fails_between ? ", not stored" : ""));
}

// What a destination publishes; the source snapshots what is wanted and was not snapshotted since.
void Agent::destination_says(const DestinationState &state) {
    if (!ship || !ship_open_) return;
    auto wanted = state.wanted;
    if (state.wants_everything) wanted.push_back(object_of(0));
    for (const auto &object : wanted)
        if (state.position >= last_snapshot_[object]) ship->snapshot(world_.now, object);
}

void Agent::produce(const Place &, const AccountKey &, const Number &number, const Record &record) {
    unsettled_[number] = {place(), record};
    resend();
}

void Agent::resend() {
    for (const auto &[number, produced] : unsettled_)
        world_.in_flight[session].push_back({produced.first, {{}, 0, account_key, number, session, produced.second}});
}

void Agent::offer(ClientId client, ChangeFrame frame) {
    auto &change = frame.change;
    if (world_.bug == Bug::no_previous_number && change.kind == ChangeKind::mailbox &&
        last_number_.contains(change.object))
        change.previous = last_number_[change.object];
    ship->change(world_.now, client, frame);
}

void Agent::send(ClientId client, const AgentFrame &frame) { world_.answered(store_, client, frame); }

void Agent::worker(const std::string &, WorkerRequest request, bool originate, WorkerDone done) {
    WorkerDone guarded = [this, machine = machine_, of = life, done = std::move(done)](const Reply &reply) {
        if (alive && life == of && machine_ == machine) done(reply);
    };
    if (originate)
        world_.take_snapshot(store_, request, std::move(guarded));
    else
        world_.requests.push_back({store_, std::move(request), std::move(guarded)});
}

} // namespace replica::model
