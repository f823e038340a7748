#include "agentd/core/place_reading.hpp"
#include <gtest/gtest.h>

namespace replica {
namespace {

AccountKey account(char which) { return AccountKey::from(std::string(sizeof(AccountKey), which).data()); }
const AccountKey a = account('a'), b = account('b');
using Keys = std::vector<AccountKey>;

class PlaceReadingTest : public testing::Test {
protected:
    PlaceReading reading;

    void begin_at(int64_t offset, int64_t end) { // for a, which reads all there is
        reading.ask(a, offset);
        ASSERT_TRUE(reading.must_move());
        ASSERT_TRUE(reading.move(0, end).assign);
        ASSERT_EQ(reading.next_offset(), offset);
        for (; offset < end; offset++)
            reading.read(offset);
        ASSERT_EQ(reading.take_caught_up(), Keys{a});
    }
};

TEST_F(PlaceReadingTest, WhoAskedIsFedAndCaughtUpOnlyOnceTheReaderStandsThere) {
    reading.ask(a, 3);
    EXPECT_FALSE(reading.feeds(a));
    EXPECT_TRUE(reading.feeds(b));
    EXPECT_TRUE(reading.must_move());
    EXPECT_TRUE(reading.move(0, 5).assign);
    EXPECT_EQ(reading.next_offset(), 3);
    EXPECT_TRUE(reading.feeds(a));
    reading.read(3);
    EXPECT_EQ(reading.take_caught_up(), Keys{});
    reading.read(4);
    EXPECT_EQ(reading.take_caught_up(), Keys{a});
    EXPECT_EQ(reading.take_caught_up(), Keys{});
}

// The record that comes between the request and the move must neither lose the request nor call it done.
TEST_F(PlaceReadingTest, ARewindIsNotLostToWhatIsReadMeanwhile) {
    begin_at(0, 10);
    reading.ask(a, 7);
    reading.read(10);
    EXPECT_EQ(reading.take_caught_up(), Keys{});
    ASSERT_TRUE(reading.must_move());
    EXPECT_TRUE(reading.move(0, 11).assign);
    EXPECT_EQ(reading.next_offset(), 7);
    for (int64_t offset = 7; offset < 11; offset++) {
        EXPECT_EQ(reading.take_caught_up(), Keys{});
        reading.read(offset);
    }
    EXPECT_EQ(reading.take_caught_up(), Keys{a});
}

TEST_F(PlaceReadingTest, WhoeverAsksForWhatIsToComeGoesOnWithTheReader) {
    begin_at(0, 10);
    reading.ask(b, 10);
    EXPECT_FALSE(reading.must_move());
    reading.stay();
    EXPECT_TRUE(reading.feeds(b));
    EXPECT_EQ(reading.take_caught_up(), Keys{b});
    EXPECT_EQ(reading.next_offset(), 10);
}

TEST_F(PlaceReadingTest, OneMoveForAllWhoAskTogetherAndTheOldestDecides) {
    begin_at(0, 10);
    reading.ask(a, 8);
    reading.ask(b, 4);
    EXPECT_TRUE(reading.move(0, 12).assign);
    EXPECT_EQ(reading.next_offset(), 4);
    EXPECT_EQ(reading.highest(), 9);
}

TEST_F(PlaceReadingTest, WhoAsksForWhatIsNotThereIsNamedAndTheOthersAreRead) {
    reading.ask(a, 2);
    reading.ask(b, 6);
    auto move = reading.move(5, 9);
    EXPECT_TRUE(move.assign);
    EXPECT_EQ(reading.next_offset(), 6);
    EXPECT_EQ(move.out_of_range, (std::vector<std::pair<AccountKey, int64_t>>{{a, 2}}));
    for (int64_t offset = 6; offset < 9; offset++)
        reading.read(offset);
    EXPECT_EQ(reading.take_caught_up(), Keys{b});
}

TEST_F(PlaceReadingTest, WhereNobodyCanBeReadTheReaderDoesNotRun) {
    reading.ask(a, 2);
    EXPECT_FALSE(reading.move(5, 9).assign);
    EXPECT_FALSE(reading.running());
}

TEST_F(PlaceReadingTest, AReaderThatStoppedBeginsWhereItIsAskedTo) {
    begin_at(0, 10);
    reading.stop();
    EXPECT_EQ(reading.next_offset(), 10);
    reading.ask(a, 12);
    EXPECT_TRUE(reading.must_move());
    EXPECT_TRUE(reading.move(0, 15).assign);
    EXPECT_EQ(reading.next_offset(), 12);
}

} // namespace
} // namespace replica
