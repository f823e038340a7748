// Thousands of short histories of a site, each from its seed, against the plain model. REPLICA_SEED repeats one,
// REPLICA_SEEDS says how many.
#include "tests/unit/model/world.hpp"
#include <cstdlib>
#include <gtest/gtest.h>

namespace replica::model {
namespace {

// What went wrong in the history of this seed, or nothing.
std::string history(uint64_t seed, Bug bug) {
    World world(seed, bug);
    try {
        for (int n = 0; n < 1500; ++n)
            world.step();
        world.promote_and_check();
    } catch (const plain::Broken &broken) {
        return broken.what();
    }
    return {};
}

uint64_t from_environment(const char *name, uint64_t otherwise) {
    const char *text = std::getenv(name);
    return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

TEST(Model, NothingIsLostNorAppliedTwiceNorAcknowledgedInVain) {
    uint64_t first = from_environment("REPLICA_SEED", 1);
    uint64_t last = std::getenv("REPLICA_SEED") ? first : from_environment("REPLICA_SEEDS", 1000);
    for (uint64_t seed = first; seed <= last; ++seed)
        ASSERT_EQ(history(seed, Bug::none), "") << "REPLICA_SEED=" << seed;
}

TEST(Model, EveryGapIsNamed) {
    int named = 0;
    for (uint64_t seed = 1; seed <= 300; ++seed) {
        World world(seed, Bug::none);
        try {
            for (int n = 0; n < 500; ++n)
                world.step();
            world.lose_a_record();
        } catch (const plain::Broken &broken) {
            FAIL() << "seed " << seed << ": " << broken.what();
        }
        named += world.gaps_named;
    }
    EXPECT_GT(named, 50);
}

class PlantedBug : public testing::TestWithParam<std::pair<Bug, const char *>> {};

TEST_P(PlantedBug, IsCaught) {
    for (uint64_t seed = 1; seed <= 500; ++seed)
        if (auto broken = history(seed, GetParam().first); !broken.empty()) {
            std::cout << "caught by seed " << seed << ": " << broken << "\n";
            return;
        }
    FAIL() << "no seed noticed it";
}

INSTANTIATE_TEST_SUITE_P(Model, PlantedBug,
                         testing::Values(std::pair{Bug::ack_on_delivery, "AckOnDelivery"},
                                         std::pair{Bug::no_previous_number, "NoPreviousNumber"},
                                         std::pair{Bug::no_previous_compared, "NoPreviousCompared"},
                                         std::pair{Bug::no_fence_read_back, "NoFenceReadBack"},
                                         std::pair{Bug::offset_before_flush, "OffsetBeforeFlush"},
                                         std::pair{Bug::mark_not_compared, "MarkNotCompared"}),
                         [](const auto &bug) { return bug.param.second; });

} // namespace
} // namespace replica::model
