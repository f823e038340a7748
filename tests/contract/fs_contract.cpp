// What cbox, and any other module, may expect of a lib-fs driver that keeps bodies. The same for each of them.
//   fs_contract LOCATION [--gtest_...]     LOCATION as in any lib-fs setting; everything is made in a folder of its own
// CONTRACT_FILES: how many files a folder is to hold (2500: several pages of an S3 listing); CONTRACT_LARGE: bytes of
// the largest body (20 MiB: above what S3 takes in one piece here); CONTRACT_CA: whom to trust with https.
#include <csignal>
#include <cstdlib>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/contract/fs_files.hpp"

namespace replica::test {

std::string location;

namespace {

size_t number_of(const char *name, size_t otherwise) {
    const char *text = getenv(name);
    return text == nullptr ? otherwise : strtoul(text, nullptr, 10);
}

// No two parts of it are alike.
std::string body_of(size_t size, unsigned seed = 1) {
    std::string body(size, '\0');
    uint64_t state = seed * 0x9e3779b97f4a7c15ULL;
    for (char &byte : body) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        byte = static_cast<char>(state >> 56);
    }
    return body;
}

std::string new_folder() { return std::string("contract-") + guid_generate(); }

constexpr int failed = 1, refused = 2, died = 3; // how work() ends

// What a second process does in a test; its exit code.
int work(const Files &files, const std::string &what, char with) {
    if (what == "create") {
        int error = files.write("contended", std::string(20'000, with), FS_OPEN_MODE_CREATE).error;
        return error == 0 ? with : error == EEXIST ? refused : failed;
    }
    if (what == "replace") {
        for (int round = 0; round < 10; round++)
            if (!files.write("contended", std::string(100'000, with))) return failed;
        return 0;
    }
    (void)files.write_stream("half", body_of(3'000'000), 1000, [] { _exit(died); });
    return failed;
}

class FsContract : public testing::Test {
protected:
    const std::string folder = new_folder();
    Files files{location, folder};

    // Does it in a process of its own: see work() below.
    pid_t start(const char *what, char with = '-') const {
        pid_t pid = fork();
        const char argument[] = {with, '\0'};
        if (pid == 0) execl("/proc/self/exe", "fs_contract", location.c_str(), folder.c_str(), what, argument, nullptr);
        return pid;
    }

    static int exit_of(pid_t pid) {
        int status;
        EXPECT_EQ(pid, waitpid(pid, &status, 0));
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
};

#define GOOD(outcome)                                                                                                  \
    do {                                                                                                               \
        const auto &result = (outcome);                                                                                \
        ASSERT_TRUE(result) << strerror(result.error) << ": " << result.words;                                         \
    } while (false)

TEST_F(FsContract, WhatIsWrittenIsRead) {
    for (size_t size : {size_t(0), size_t(1), size_t(8191), size_t(8192), size_t(20'000), size_t(1'000'000)}) {
        std::string name = "plain-" + std::to_string(size), body = body_of(size);
        GOOD(files.write(name, body));
        auto content = files.read(name);
        GOOD(content);
        EXPECT_TRUE(content.bytes == body) << size;
        EXPECT_TRUE(size > 100'000 || files.read_small(name).bytes == body) << size;
        EXPECT_EQ(files.stat(name).bytes, std::to_string(size));
        EXPECT_EQ(files.exists(name).bytes, "yes");
    }
}

TEST_F(FsContract, AStreamWrittenInPiecesIsOneFile) {
    std::string body = body_of(300'000);
    for (size_t piece : {size_t(77), size_t(4096), size_t(131'072), body.size()}) {
        GOOD(files.write_stream("stream", body, piece));
        EXPECT_TRUE(files.read("stream").bytes == body) << piece;
    }
}

TEST_F(FsContract, NothingIsThereBeforeAStreamIsFinished) {
    std::string seen;
    GOOD(files.write_stream("late", body_of(50'000), 1000, [&] { seen = files.exists("late").bytes; }));
    EXPECT_EQ(seen, "no");
    EXPECT_EQ(files.exists("late").bytes, "yes");
}

TEST_F(FsContract, ALargeBodyIsWrittenReadAndCopied) {
    std::string body = body_of(number_of("CONTRACT_LARGE", 20 << 20));
    GOOD(files.write_stream("large", body, 64 * 1024));
    EXPECT_TRUE(files.read("large").bytes == body);
    EXPECT_EQ(files.stat("large").bytes, std::to_string(body.size()));
    EXPECT_EQ(files.read_at("large", {{body.size() - 100, 100}, {0, 10}}).bytes,
              body.substr(body.size() - 100) + body.substr(0, 10));
    GOOD(files.copy("large", "large-copy"));
    EXPECT_TRUE(files.read("large-copy").bytes == body);
    EXPECT_EQ(files.list(""), (std::vector<std::string>{"large", "large-copy"}));
}

TEST_F(FsContract, ASeekableStreamIsReadAnywhere) {
    std::string body = body_of(200'000);
    GOOD(files.write("body", body));
    auto content = files.read_at("body", {{199'872, 128}, {199'000, 800}, {0, 100}, {50'000, 70'000}, {0, 1}});
    GOOD(content);
    EXPECT_TRUE(content.bytes == body.substr(199'872) + body.substr(199'000, 800) + body.substr(0, 100) +
                                     body.substr(50'000, 70'000) + body.substr(0, 1));
}

TEST_F(FsContract, ManyAreAskedForBeforeTheFirstIsRead) {
    std::vector<std::string> names;
    for (unsigned i = 0; i < 50; i++) {
        names.push_back("many-" + std::to_string(i));
        if (i != 20) GOOD(files.write(names.back(), body_of(20'000, i)));
    }
    auto contents = files.prefetch(names);
    for (unsigned i = 0; i < 50; i++)
        if (i == 20)
            EXPECT_EQ(contents[i].error, ENOENT);
        else
            EXPECT_TRUE(contents[i].bytes == body_of(20'000, i)) << contents[i].words;
}

TEST_F(FsContract, WhatIsMissingIsNamedSo) {
    EXPECT_EQ(files.read("nothing").error, ENOENT);
    EXPECT_EQ(files.read_small("nothing").error, ENOENT);
    EXPECT_EQ(files.read_at("nothing", {{10, 10}}).error, ENOENT);
    EXPECT_EQ(files.stat("nothing").error, ENOENT);
    EXPECT_EQ(files.copy("nothing", "other").error, ENOENT);
    EXPECT_EQ(files.exists("other").bytes, "no");
    auto exists = files.exists("nothing");
    GOOD(exists);
    EXPECT_EQ(exists.bytes, "no");
}

TEST_F(FsContract, WhatIsDeletedIsGoneAndOnlyThat) {
    GOOD(files.write("one", "1"));
    GOOD(files.write("two", "2"));
    GOOD(files.remove("one"));
    EXPECT_EQ(files.read("one").error, ENOENT);
    EXPECT_EQ(files.read("two").bytes, "2");
    EXPECT_EQ(files.list(""), std::vector<std::string>{"two"});
    int again = files.remove("one").error; // S3 does not say whether there was one
    EXPECT_TRUE(again == 0 || again == ENOENT) << again;
}

TEST_F(FsContract, ReplaceReplaces) {
    GOOD(files.write("file", body_of(30'000)));
    GOOD(files.write("file", "short"));
    EXPECT_EQ(files.read("file").bytes, "short");
    EXPECT_EQ(files.stat("file").bytes, "5");
}

TEST_F(FsContract, CreateRefusesWhatIsThere) {
    GOOD(files.write("file", "first", FS_OPEN_MODE_CREATE));
    EXPECT_EQ(files.write("file", "second", FS_OPEN_MODE_CREATE).error, EEXIST);
    EXPECT_EQ(files.read("file").bytes, "first");
}

TEST_F(FsContract, OfManyCreatorsOneWins) {
    std::vector<pid_t> pids;
    for (char writer = 'a'; writer < 'i'; writer++)
        pids.push_back(start("create", writer));
    std::string winners;
    for (pid_t pid : pids) {
        int code = exit_of(pid);
        EXPECT_NE(code, failed);
        if (code >= 'a') winners += static_cast<char>(code);
    }
    ASSERT_EQ(winners.size(), 1U) << winners;
    EXPECT_EQ(files.read("contended").bytes, std::string(20'000, winners[0]));
}

TEST_F(FsContract, ReadersOfAContendedFileSeeOneWriterWhole) {
    GOOD(files.write("contended", std::string(100'000, 'z')));
    std::vector<pid_t> pids;
    for (char writer = 'a'; writer < 'e'; writer++)
        pids.push_back(start("replace", writer));
    for (int round = 0; round < 40; round++) {
        auto content = files.read("contended");
        GOOD(content);
        ASSERT_EQ(content.bytes.size(), 100'000U);
        EXPECT_EQ(content.bytes.find_first_not_of(content.bytes[0]), std::string::npos);
    }
    for (pid_t pid : pids)
        EXPECT_EQ(exit_of(pid), 0);
}

TEST_F(FsContract, WhatIsAbortedLeavesNothing) {
    GOOD(files.abort_stream("aborted", body_of(50'000)));
    GOOD(files.abort_stream("aborted-large", body_of(number_of("CONTRACT_LARGE", 20 << 20))));
    EXPECT_EQ(files.exists("aborted").bytes, "no");
    EXPECT_EQ(files.list(""), std::vector<std::string>{});
}

TEST_F(FsContract, AWriterThatDiesLeavesNothing) {
    EXPECT_EQ(exit_of(start("die")), died);
    EXPECT_EQ(files.exists("half").bytes, "no");
}

TEST_F(FsContract, ACopyIsEqualAndStandsAlone) {
    std::string body = body_of(20'000);
    GOOD(files.write("from", body));
    GOOD(files.copy("from", "to"));
    GOOD(files.remove("from"));
    EXPECT_TRUE(files.read("to").bytes == body);
    EXPECT_EQ(files.exists("from").bytes, "no");
}

TEST_F(FsContract, AHashThatIsWrongRefusesTheWrite) {
    bool tried = false;
    for (auto [property, method] : {std::pair{FS_PROPERTY_WRITE_HASH_MD5, hash_method_lookup("md5")},
                                    std::pair{FS_PROPERTY_WRITE_HASH_SHA256, hash_method_lookup("sha256")}}) {
        if (!files.can(property)) continue;
        tried = true;
        GOOD(files.write_hashed(std::string("right-") + method->name, "content", method, "content"));
        EXPECT_FALSE(files.write_hashed(std::string("wrong-") + method->name, "content", method, "other"));
        EXPECT_EQ(files.exists(std::string("wrong-") + method->name).bytes, "no");
    }
    if (!tried) GTEST_SKIP() << "it takes no hashes";
}

TEST_F(FsContract, MetadataIsKept) {
    if (!files.can(FS_PROPERTY_METADATA)) GTEST_SKIP() << "it keeps none";
    struct fs_file *file = files.open("file", FS_OPEN_MODE_REPLACE);
    fs_set_metadata(file, "mailbox", "INBOX");
    EXPECT_EQ(fs_write(file, "x", 1), 0) << fs_file_last_error(file);
    fs_file_deinit(&file);
    file = files.open("file", FS_OPEN_MODE_READONLY);
    const char *value = nullptr;
    EXPECT_EQ(fs_lookup_metadata(file, "mailbox", &value), 1) << fs_file_last_error(file);
    EXPECT_STREQ(value, "INBOX");
    EXPECT_EQ(fs_lookup_metadata(file, "other", &value), 0);
    fs_file_deinit(&file);
}

TEST_F(FsContract, AFolderOfThousandsIsListedWhole) {
    std::vector<std::string> names;
    for (size_t i = 0; i < number_of("CONTRACT_FILES", 2500); i++) {
        char name[16];
        snprintf(name, sizeof(name), "%06zx", i * 2654435761U % 0x1000000);
        names.emplace_back(name);
        GOOD(files.write("ab/" + names.back(), "x"));
    }
    GOOD(files.write("ab/deeper/file", "x"));
    GOOD(files.write("cd/file", "x"));
    std::sort(names.begin(), names.end());
    Outcome outcome;
    EXPECT_TRUE(files.list("ab", 0, &outcome) == names);
    GOOD(outcome);
    EXPECT_EQ(files.list("", FS_ITER_FLAG_DIRS, &outcome), (std::vector<std::string>{"ab", "cd"}));
    GOOD(outcome);
    EXPECT_EQ(files.list("ab", FS_ITER_FLAG_DIRS), std::vector<std::string>{"deeper"});
    EXPECT_EQ(files.list(""), std::vector<std::string>{});
}

TEST_F(FsContract, AFolderThatIsNotThereIsEmpty) {
    Outcome outcome;
    EXPECT_EQ(files.list("nowhere", 0, &outcome), std::vector<std::string>{});
    GOOD(outcome);
}

TEST_F(FsContract, AnyNameIsKeptAsItIs) {
    std::vector<std::string> names = {"a b",      "a+b",    "a%20b",         "a&b=c", "a?b", "a#b", "umlaut-\xc3\xa4",
                                      "quote\"'", "~tilde", "co:lon,;@$!*()"};
    for (const auto &name : names) {
        GOOD(files.write(name, name));
        EXPECT_EQ(files.read(name).bytes, name);
    }
    std::sort(names.begin(), names.end());
    EXPECT_EQ(files.list(""), names);
    for (const auto &name : names)
        GOOD(files.remove(name));
    EXPECT_EQ(files.list(""), std::vector<std::string>{});
}

} // namespace

} // namespace replica::test

int main(int argc, char **argv) {
    testing::InitGoogleTest(&argc, argv);
    if (argc != 2 && argc != 5) {
        fprintf(stderr, "fs_contract LOCATION [--gtest_filter=...]\n");
        return 2;
    }
    replica::test::location = argv[1];
    lib_init();
    signal(SIGPIPE, SIG_IGN); // as in every process of Dovecot's
    struct ioloop *loop = io_loop_create();
    int ret = argc == 2 ? RUN_ALL_TESTS() : replica::test::work({argv[1], argv[2]}, argv[3], argv[4][0]);
    io_loop_destroy(&loop);
    lib_deinit();
    return ret;
}
