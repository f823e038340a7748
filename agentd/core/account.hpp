// One account on this store: which role the decided account record gives it here, where its log is read, and which
// machine the records go to: Ship where this store is the source, Follow where it is a destination. Promises: the
// control dir says `source` only once everything of the log is in the indexes; from a fence on nothing is acknowledged;
// a store that was replaced rolls forward to the fence and follows.
#pragma once
#include "agentd/core/effects.hpp"
#include "agentd/core/follow.hpp"
#include "agentd/core/log_reader.hpp"
#include "agentd/core/numbers_seen.hpp"
#include "agentd/core/ship.hpp"
#include <memory>

namespace replica {

class AccountHost {
public:
    virtual ~AccountHost() = default;
    virtual const std::string &store() const = 0;
    virtual const std::string &boot() const = 0; // this boot of the host
    // The account reads the place from this offset on, rewound if it must be; until then nothing of it is fed. Never
    // from inside this call follows: caught_up(), when everything that was there when it was called has been read; or
    // unreadable(), if the offset is not there.
    virtual void read_from(const AccountKey &, const Place &, int64_t offset) = 0;
    virtual ShipSettings ship_settings() const = 0;
    virtual void inspect_later(const AccountKey &) = 0; // inspect(), a few accounts at a time
};

// What survives a restart: as of the last flush. Who is level with the place's reader needs no offset of its own: it
// goes on from the place's stored one, written in the same transaction.
struct StoredAccount {
    Number position;
    bool opened = false;
    Place place;
    int64_t offset = of_place; // of the first record behind the position, or before it
    static constexpr int64_t of_place = -1;
    bool wants_everything = false;
    std::vector<Object> wanted;
    std::string stopped;  // as destination: the reason, if it was
    bool lost = false;    // it is because the log has not what comes next any more
    uint64_t version = 0; // of the record that it lived by
    struct ControlDir {   // as written last: written anew only where it would differ
        Role role = Role::none;
        uint64_t epoch = 0;
        std::string boot;
        std::string mail_root; // and its device: what a flush has to cover
        uint64_t device = 0;
        std::string uid; // whose the mail is: he and root may change it
        bool operator==(const ControlDir &) const = default;
    } control_dir;
};
std::string encode(const StoredAccount &);
template <> Result<StoredAccount> decode<StoredAccount>(std::string_view);

class Account {
public:
    Account(std::string name, AccountKey key, AccountHost &host, Effects &effects);

    void restore(const StoredAccount &stored) { // before the first record(); the offset is filled in
        stored_ = stored;
        control_dir_ = stored.control_dir;
        has_begun_ = !stored.position.none() && !stored.wants_everything;
        flushed_ = stored.position;
    }
    void record(Time now, const AccountRecord &decided);
    void entry(Time now, const Entry &);
    void caught_up(Time now, const Place &);
    void destination_state(Time now, const DestinationState &); // as source: what a destination wants
    void inspect(std::function<void()> done); // as source: snapshots of what is unlogged, and of wanted lists
    bool inspected() const { return inspected_; }
    void unreadable(const std::string &why); // a record of ours that cannot be read, though it may count: it stops
    void lost(const std::string &why);       // what comes next is not in the log any more: it stops
    void set_aside(); // busy for too long: it reads on by itself once it is not, so that others need not wait
    void worker_lost(Time now);
    void tick(Time now);
    std::optional<Time> deadline() const;

    const std::string &name() const { return name_; }
    const AccountKey &key() const { return key_; }
    Role role() const { return control_dir_.boot == host_.boot() ? control_dir_.role : Role::none; }
    const StoredAccount::ControlDir &control_dir() const { return control_dir_; }
    const AccountRecord &decided() const { return record_; }
    Ship *ship() const { return ship_.get(); }
    Follow *follow() const { return follow_.get(); }

    std::optional<StoredAccount> storable(); // none: nothing to keep (no role)
    void stored();                           // what storable() gave last survives a restart
    bool wants_flush() const;                // before it may count as complete
    // As destination: what counts as complete is still so after a restart.
    DestinationPhase phase() const;
    Place reading() const { return reader_ ? reader_->place() : Place{}; }
    Number position() const { return reader_ ? reader_->position() : Number{}; }
    int64_t next_offset() const {
        return next_offset_;
    } // behind the record at position(): a start for a new destination
    std::optional<Time> first_after(const Number &number) const { return seen_.first_after(number); }
    bool opened(uint64_t epoch) const { return reader_ && reader_->opened() && reader_->position().epoch == epoch; }
    uint64_t crossed_epoch() const { return crossed_epoch_; } // all places of epochs below it were read to their fence
    bool starting() const {                                   // as source: it cannot take changes yet
        bool ours = this_store(record_.source) && record_.state == AccountState::active && stopped_.empty();
        return ours && (!ship_open_ || control_dir_.uid.empty());
    }
    bool has_unpublished() const { return unpublished_; }
    bool busy() const; // as destination: reading has to wait for it
    // The state to publish, if it changed enough since the last time: as destination; or as source, where `published`
    // is what the control log has of this store.
    std::optional<DestinationState> take_state(Time now, const DestinationState *published);

private:
    void begin(Time now);
    void become_source(Time now);
    void open_if_ready(Time now);
    void changes(Time now, const Entry &);
    void demote(Time now);
    void leave();
    void cross_if_fenced();
    void read_on(int64_t offset);
    void set_role(Role role);
    void ask_role();
    void write_role();
    void kick();
    void snapshot_lists(const Number &position);
    std::optional<DestinationState> take_destination_state(Time now);
    std::optional<DestinationState> take_source_state(Time now, const DestinationState *published);
    void stored_position(StoredAccount &) const;
    bool follow_is_level() const; // all that was fed to it is in the indexes
    bool this_store(const std::string &store) const { return store == host_.store(); }
    bool is_destination() const;
    bool is_here() const;
    void forget();
    bool log_is_new() const;

    std::string name_;
    AccountKey key_;
    AccountHost &host_;
    Effects &effects_;
    StoredAccount stored_;
    AccountRecord record_;
    std::unique_ptr<LogReader> reader_;
    std::shared_ptr<class GuardedEffects> ship_effects_, follow_effects_, own_effects_;
    std::unique_ptr<Ship> ship_;
    std::unique_ptr<Follow> follow_;
    NumbersSeen seen_;
    Number follow_fed_;      // the last change given to follow_
    Number opened_position_; // of ship_, when it was opened
    StoredAccount::ControlDir control_dir_;
    Role role_wanted_ = Role::none;
    uint64_t role_epoch_ = 0, crossed_epoch_ = 0, open_produced_ = 0, fence_read_ = 0; // epochs
    bool role_asked_ = false, role_failed_ = false;
    int64_t next_offset_ = 0;
    struct Crossed { // until the next epoch's OPEN was read: a restart reads the fence again
        Place place;
        int64_t offset;
    };
    std::optional<Crossed> crossed_;
    bool storing_begun_ = false, has_begun_ = false; // with the lists, so that a restart does not begin anew; stored
    Number storing_, flushed_;                       // the position; stored
    bool caught_up_ = false, ship_open_ = false, inspected_ = false;
    bool aside_ = false, asking_ = false; // nothing is fed; the place's reader was asked, and has not come
    std::string stopped_, role_problem_;
    bool lost_ = false;
    std::map<Object, Number> snapshots_; // the number of each object's last one
    DestinationState published_;
    bool unpublished_ = false;
    Time published_at_{}, role_retry_at_{};
    std::optional<Time> inspect_at_;        // again
    std::optional<Number> lists_wanted_at_; // by a destination at this position, from the inspection to come
};

} // namespace replica
