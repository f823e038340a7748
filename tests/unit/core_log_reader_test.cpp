#include "agentd/core/log_reader.hpp"
#include <gtest/gtest.h>
#include <random>
#include <set>

namespace replica {
namespace {

using Judgement = LogReader::Judgement;
const Place here{"replica.changes.a", 3}, there{"replica.changes.b", 1};

Entry entry(RecordKind kind, Number number, Place place = here) {
    Entry e;
    e.place = std::move(place);
    e.number = number;
    e.record.kind = kind;
    return e;
}
Entry changes(uint64_t epoch, uint64_t sequence) { return entry(RecordKind::changes, {epoch, sequence}); }
Entry fence(uint64_t epoch) { return entry(RecordKind::fence, {epoch, 0}); }
Entry open(uint64_t epoch, Number previous, Place place = here) {
    Entry e = entry(RecordKind::open, {epoch, 0}, place);
    e.record.open = Open{previous, place};
    return e;
}

TEST(LogReader, TheFirstOfANumberCountsAndItsDoublesDoNot) {
    LogReader reader({1, 4}, true, here);
    EXPECT_EQ(reader.judge(changes(1, 5)), Judgement::counts);
    EXPECT_EQ(reader.judge(changes(1, 5)), Judgement::ignored);
    EXPECT_EQ(reader.judge(changes(1, 3)), Judgement::ignored);
    EXPECT_EQ(reader.position(), (Number{1, 5}));
}

TEST(LogReader, AMissingSequenceIsAGapAndThePositionStays) {
    LogReader reader({1, 4}, true, here);
    EXPECT_EQ(reader.judge(changes(1, 6)), Judgement::gap);
    EXPECT_EQ(reader.position(), (Number{1, 4}));
    EXPECT_EQ(reader.judge(changes(1, 5)), Judgement::counts);
}

TEST(LogReader, BehindAFenceNothingOfAnOlderEpochCounts) {
    LogReader reader({1, 4}, true, here);
    EXPECT_EQ(reader.judge(fence(1)), Judgement::ignored);
    EXPECT_EQ(reader.judge(fence(3)), Judgement::fence);
    EXPECT_EQ(reader.judge(changes(1, 5)), Judgement::ignored);
    EXPECT_EQ(reader.judge(entry(RecordKind::bulk, {1, 0})), Judgement::ignored);
    EXPECT_EQ(reader.judge(fence(2)), Judgement::ignored);
    EXPECT_EQ(reader.judge(fence(4)), Judgement::ignored);
    EXPECT_EQ(reader.fenced_by(), 3u) << "the one that closed it: epoch 3 is read next, whatever came later";
}

TEST(LogReader, CrossesOnlyAtThePositionThatTheOpenNames) {
    LogReader reader({1, 4}, true, here);
    reader.judge(fence(2));
    reader.cross({2, there});
    EXPECT_FALSE(reader.opened());
    EXPECT_EQ(reader.position(), (Number{1, 4}));
    EXPECT_EQ(reader.judge(changes(1, 5)), Judgement::ignored) << "another place now";
    EXPECT_EQ(reader.judge(open(2, {1, 5}, there)), Judgement::gap);
    EXPECT_EQ(reader.judge(open(2, {1, 4}, there)), Judgement::counts);
    EXPECT_EQ(reader.position(), (Number{2, 0}));
    EXPECT_EQ(reader.judge(open(2, {1, 4}, there)), Judgement::ignored) << "the first one counted";
    EXPECT_EQ(reader.judge(entry(RecordKind::changes, {2, 1}, there)), Judgement::counts);
}

TEST(LogReader, AnEpochFencedBeforeItsOpenIsCrossed) {
    LogReader reader({1, 4}, true, here);
    reader.judge(fence(2));
    reader.cross({2, there});
    EXPECT_EQ(reader.judge(entry(RecordKind::fence, {3, 0}, there)), Judgement::fence);
    EXPECT_EQ(reader.judge(open(2, {1, 4}, there)), Judgement::ignored);
    reader.cross({3, here});
    EXPECT_EQ(reader.judge(fence(3)), Judgement::ignored) << "its own";
    EXPECT_EQ(reader.judge(open(3, {1, 4})), Judgement::counts);
}

TEST(LogReader, AChangeBeforeItsOpenIsAGap) {
    LogReader reader({2, 0}, false, here);
    EXPECT_EQ(reader.judge(changes(2, 1)), Judgement::gap);
    EXPECT_EQ(reader.judge(entry(RecordKind::bulk, {2, 0})), Judgement::ignored);
    EXPECT_EQ(reader.judge(open(2, {1, 77})), Judgement::counts) << "a start that the control log names is trusted";
    EXPECT_EQ(reader.judge(changes(2, 1)), Judgement::counts);
}

TEST(LogReader, AnOpenCopiedFromAnotherPlaceIsVoid) {
    LogReader reader({1, 0}, false, here);
    Entry copied = open(1, {}, there);
    copied.place = here;
    EXPECT_EQ(reader.judge(copied), Judgement::ignored);
    EXPECT_FALSE(reader.opened());
}

TEST(LogReader, BulkCountsOnlyInTheOpenEpoch) {
    LogReader reader({2, 1}, true, here);
    EXPECT_EQ(reader.judge(entry(RecordKind::bulk, {2, 0})), Judgement::bulk);
    EXPECT_EQ(reader.judge(entry(RecordKind::bulk, {1, 0})), Judgement::ignored);
    EXPECT_EQ(reader.judge(entry(RecordKind::bulk, {3, 0})), Judgement::ignored);
}

// The rule as the design words it, over the whole place at once.
bool counts_by_definition(const std::vector<Entry> &log, size_t at) {
    const Number number = log[at].number;
    for (size_t i = 0; i < at; ++i) {
        if (log[i].record.kind == RecordKind::fence && log[i].number.epoch > number.epoch) return false;
        if (log[i].record.kind == RecordKind::changes && log[i].number == number) return false;
    }
    return true;
}

TEST(LogReader, AgreesWithTheDefinitionOnShuffledLogs) {
    std::mt19937 random(20);
    for (int round = 0; round < 2000; ++round) {
        std::vector<Entry> log;
        for (uint64_t s = 1; s <= 12; ++s)
            log.push_back(changes(2, s));
        for (int extra = 0; extra < 10; ++extra) { // doubles, other epochs, fences; each somewhere behind its original
            size_t at = random() % log.size();
            Entry more = random() % 3 == 0   ? fence(random() % 4)
                         : random() % 2 == 0 ? changes(random() % 2 * 2 + 1, random() % 12 + 1)
                                             : log[random() % (at + 1)];
            log.insert(log.begin() + static_cast<long>(at) + 1, more);
        }
        LogReader reader({2, 0}, true, here);
        bool gap = false;
        for (size_t i = 0; i < log.size(); ++i) {
            auto judgement = reader.judge(log[i]);
            gap |= judgement == Judgement::gap;
            if (log[i].record.kind != RecordKind::changes || log[i].number.epoch != 2 || gap) continue;
            EXPECT_EQ(judgement == Judgement::counts, counts_by_definition(log, i)) << "round " << round << " at " << i;
        }
    }
}

} // namespace
} // namespace replica
