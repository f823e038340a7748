// The formats as they were once written down: files in vectors/, in hexadecimal. REPLICA_GOLDEN_ACCEPT=1 writes them
// anew.
#include "lib/wire/control.hpp"
#include "tests/golden/vectors.hpp"
#include <cstdlib>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>

namespace replica::golden {
namespace {

std::string path_of(const std::string &name) { return GOLDEN_DIR "/" + name + ".hex"; }

std::string lines(const std::string &hex) {
    std::string out;
    for (size_t at = 0; at < hex.size(); at += 64)
        out += hex.substr(at, 64) + "\n";
    return out;
}

void expect_golden(const std::string &name, std::string_view bytes) {
    std::string now = lines(to_hex(bytes));
    if (std::getenv("REPLICA_GOLDEN_ACCEPT") != nullptr) {
        std::ofstream file(path_of(name), std::ios::trunc);
        file << now;
        ASSERT_TRUE(file.flush().good()) << path_of(name);
    }
    std::ifstream file(path_of(name));
    std::string then{std::istreambuf_iterator<char>(file), {}};
    EXPECT_EQ(then, now) << path_of(name) << ": the format has changed, so its version must";
}

class Golden : public testing::TestWithParam<Vector> {};

TEST_P(Golden, BytesAreWhatTheyWere) { expect_golden(GetParam().name, GetParam().bytes); }

INSTANTIATE_TEST_SUITE_P(Formats, Golden, testing::ValuesIn(vectors()),
                         [](const auto &vector) { return vector.param.name; });

TEST(GoldenKeys, KafkaKeysAreWhatTheyWere) {
    KeyRing keys = ring();
    AccountKey account = keys.account_key("u0001@example.com");
    std::string store = keys.name_hash("store", "store1.example.com");
    Guid operation = Guid::from("sixteen bytes id");
    Session session = envelope_header().session;
    expect_golden("key_account_record", account_record_key(account, 4, store, session, 9));
    expect_golden("key_heartbeat", heartbeat_key(store));
    expect_golden("key_destination", destination_key(account, store));
    expect_golden("key_operation", operation_key(operation));
    expect_golden("key_check_answer", check_answer_key(operation, store));
}

// A page's example is a fence "vector NAME": the vector in lines of hexadecimal, each with what it means.
TEST(FormatPages, ExamplesAreTheVectors) {
    for (const char *page : {"envelope", "record", "change", "control-log", "agent-socket", "worker-socket"}) {
        std::ifstream file(DOCS_DIR "/" + std::string(page) + ".md");
        const std::string opening = "```vector ";
        int examples = 0;
        for (std::string line; std::getline(file, line);) {
            if (!line.starts_with(opening)) continue;
            std::ifstream vector(path_of(line.substr(opening.size())));
            std::string shown, expected;
            for (std::string part; vector >> part;)
                expected += part;
            while (std::getline(file, line) && line != "```")
                shown += line.substr(0, line.find(' '));
            EXPECT_EQ(shown, expected) << page << ".md";
            examples++;
        }
        EXPECT_GT(examples, 0) << page << ".md";
    }
}

TEST(GoldenKeys, TheRingsCheckValueIsWhatItWas) { expect_golden("key_ring_check", ring().check_value()); }

} // namespace
} // namespace replica::golden
