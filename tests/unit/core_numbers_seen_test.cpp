#include "agentd/core/numbers_seen.hpp"
#include <gtest/gtest.h>

namespace replica {
namespace {

using namespace std::chrono_literals;
constexpr Time start{1h};

TEST(NumbersSeen, KnowsWhenTheFirstBehindANumberCame) {
    NumbersSeen seen;
    EXPECT_FALSE(seen.first_after({1, 0}));
    seen.saw(start, {1, 1});
    seen.saw(start + 10s, {1, 2});
    seen.saw(start + 20s, {2, 0});
    EXPECT_EQ(seen.first_after({1, 0}), start);
    EXPECT_EQ(seen.first_after({1, 1}), start + 10s);
    EXPECT_EQ(seen.first_after({1, 2}), start + 20s);
    EXPECT_FALSE(seen.first_after({2, 0}));
}

TEST(NumbersSeen, NeverSaysLessThanItIsAndAStepMoreAtMost) {
    NumbersSeen seen;
    for (uint64_t n = 1; n <= 1000; n++)
        seen.saw(start + n * 300ms, {1, n});
    EXPECT_EQ(seen.first_after({1, 0}), start + 300ms);
    for (uint64_t n = 0; n < 1000; n++) {
        auto since = seen.first_after({1, n});
        ASSERT_TRUE(since) << n;
        EXPECT_LE(*since, start + (n + 1) * 300ms) << n;
        EXPECT_GE(*since, start + (n + 1) * 300ms - (n > 990 ? 1s : 300s)) << n;
    }
    EXPECT_FALSE(seen.first_after({1, 1000}));
}

} // namespace
} // namespace replica
