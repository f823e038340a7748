#include "lib/base/bytes.hpp"
#include <gtest/gtest.h>

namespace replica {
namespace {

TEST(Hex, IsLowerCaseAndTwoDigitsForEachByte) {
    EXPECT_EQ(to_hex(std::string_view("\x00\x0f\xa0\xff", 4)), "000fa0ff");
    EXPECT_EQ(to_hex(""), "");
}

TEST(Number, PrintsAsEpochSlashSequenceAndOrdersByEpochFirst) {
    EXPECT_EQ(to_string(Number{3, 1207}), "3/1207");
    EXPECT_LT((Number{2, 9}), (Number{3, 0}));
    EXPECT_LT((Number{3, 0}), (Number{3, 1}));
    EXPECT_TRUE((Number{0, 0}).none());
    EXPECT_FALSE((Number{1, 0}).none());
}

TEST(Bytes, IntegersStandInNetworkOrder) {
    std::string out;
    Writer to(out);
    to.u8(0x01);
    to.u16(0x0203);
    to.u32(0x04050607);
    to.u64(0x08090a0b0c0d0e0f);
    EXPECT_EQ(to_hex(out), "0102030405060708090a0b0c0d0e0f");
    Reader from(out);
    EXPECT_EQ(from.u8(), 0x01);
    EXPECT_EQ(from.u16(), 0x0203);
    EXPECT_EQ(from.u32(), 0x04050607u);
    EXPECT_EQ(from.u64(), 0x08090a0b0c0d0e0fu);
    EXPECT_TRUE(from.at_end());
}

TEST(Bytes, AReaderThatFailedStaysFailedAndReadsZeros) {
    Reader from("\x01\x02");
    EXPECT_EQ(from.u32(), 0u);
    EXPECT_FALSE(from.ok());
    EXPECT_EQ(from.u8(), 0); // though two bytes were left
    EXPECT_EQ(from.blob(), "");
    EXPECT_FALSE(from.at_end());
}

TEST(Bytes, ALengthBeyondTheInputIsAFailure) {
    Reader from(std::string_view("\xff\xff\xff\xff"
                                 "abc",
                                 7));
    EXPECT_EQ(from.blob(), "");
    EXPECT_FALSE(from.ok());
}

TEST(Bytes, ACountThatTheInputCannotHoldIsAFailure) {
    const std::string_view three_then_eight_bytes("\0\0\0\3abcdefgh", 12);
    Reader enough(three_then_eight_bytes);
    EXPECT_EQ(enough.count(2), 3u);
    Reader too_many(three_then_eight_bytes);
    EXPECT_EQ(too_many.count(3), 0u);
    EXPECT_FALSE(too_many.ok());
    Reader wraps(three_then_eight_bytes);
    EXPECT_EQ(wraps.count(SIZE_MAX / 3 + 1), 0u) << "the product must not wrap around";
}

} // namespace
} // namespace replica
