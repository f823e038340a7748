// The agent's facts: whole or not at all, there after a reopen, found by prefix.
#include "agentd/state/state.hpp"
#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <map>

namespace replica {
namespace {

class StateTest : public testing::Test {
protected:
    std::string folder = std::filesystem::temp_directory_path() / "state_test.XXXXXX";
    std::unique_ptr<State> state;

    void SetUp() override {
        ASSERT_NE(mkdtemp(folder.data()), nullptr);
        open();
    }
    void TearDown() override {
        state.reset();
        std::filesystem::remove_all(folder);
    }
    void open() {
        state.reset();
        auto opened = State::open(folder);
        ASSERT_TRUE(opened) << opened.error().message;
        state = std::move(*opened);
    }
    std::map<std::string, std::string> all(std::string_view prefix) {
        std::map<std::string, std::string> found;
        EXPECT_TRUE(state->each(prefix, [&](auto key, auto value) { found.emplace(key, value); }));
        return found;
    }
};

TEST_F(StateTest, FindsByPrefixInOrderAndNothingElse) {
    ASSERT_TRUE(state->write({{"p/2", "two"}, {"a/1", "other"}, {"p/1", "one"}, {"p", "shorter"}, {"q/1", "behind"}}));
    EXPECT_EQ(all("p/"), (std::map<std::string, std::string>{{"p/1", "one"}, {"p/2", "two"}}));
    EXPECT_TRUE(all("x/").empty());
    EXPECT_EQ(all("").size(), 5u);
}

TEST_F(StateTest, ReadsWhatWasWrittenLastAndKnowsWhatIsGone) {
    ASSERT_TRUE(state->write({{"k", "first"}}));
    ASSERT_TRUE(state->write({{"k", std::string("sec\0ond", 7)}}));
    EXPECT_EQ(*state->read("k"), std::string("sec\0ond", 7));
    ASSERT_TRUE(state->write({{"k", ""}, {"never there", ""}}));
    auto gone = state->read("k");
    ASSERT_FALSE(gone);
    EXPECT_EQ(gone.error().code, Code::gone);
}

TEST_F(StateTest, AWriteThatFailsLeavesEverythingAsItWas) {
    ASSERT_TRUE(state->write({{"k", "old"}}));
    EXPECT_FALSE(state->write({{"k", "new"}, {std::string(600, 'k'), "a key that is too long"}}));
    EXPECT_EQ(*state->read("k"), "old");
    EXPECT_EQ(all("").size(), 1u);
}

TEST_F(StateTest, IsThereAfterAReopen) {
    ASSERT_TRUE(state->write({{"k", "value"}, {"l", "other"}}));
    open();
    EXPECT_EQ(*state->read("k"), "value");
    EXPECT_EQ(all("").size(), 2u);
}

TEST_F(StateTest, SaysWhichDirectoryIsNotThere) {
    auto opened = State::open(folder + "/missing");
    ASSERT_FALSE(opened);
    EXPECT_NE(opened.error().message.find(folder), std::string::npos) << opened.error().message;
}

} // namespace
} // namespace replica
