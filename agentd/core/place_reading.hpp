// One place, read once for all accounts that are logged there: who asked to be read from where, where the reader has to
// go for them, and who has been read up to the end that was there when he asked.
// Promises: who asked is fed nothing, and is not caught up, before the reader stands where he asked, or before it; no
// request is lost, whatever is read between it and the move. What others read again is void to them: it is numbered.
// Pure: no clock, no I/O.
#pragma once
#include "lib/base/ids.hpp"
#include <map>
#include <set>
#include <vector>

namespace replica {

class PlaceReading {
public:
    void ask(const AccountKey &account, int64_t offset); // then, once whoever asks has asked: move
    bool feeds(const AccountKey &account) const { return !asked_.contains(account); }

    bool must_move() const; // the reader does not run, or stands behind what was asked for
    struct Move {
        bool assign = false;                                      // the reader goes to next_offset()
        std::vector<std::pair<AccountKey, int64_t>> out_of_range; // who asked for what is not there
    };
    Move move(int64_t first, int64_t end); // what is there; where must_move()
    void stay() { asked_.clear(); }        // where not

    void read(int64_t offset); // a record
    void stop();               // until somebody asks; who has asked is still to be moved for
    std::vector<AccountKey> take_caught_up();

    bool running() const { return running_; }
    int64_t next_offset() const { return next_offset_; } // of the record to read next; kept when the reader stops
    int64_t highest() const { return highest_; }         // that was ever read; -1: none

private:
    bool running_ = false;
    int64_t next_offset_ = 0, highest_ = -1;
    int64_t caught_up_at_ = 0;            // where the place ended when the reader went back last
    std::map<AccountKey, int64_t> asked_; // the reader has still to go there
    std::set<AccountKey> waiting_;        // to be told that they are caught up
};

} // namespace replica
