#include "lib/base/ids.hpp"
#include "plugin/fs_s3/s3-answer.hpp"
#include "plugin/fs_s3/s3-credentials.hpp"
#include "plugin/fs_s3/s3-hash.hpp"
#include "plugin/fs_s3/s3-location.hpp"
#include "plugin/fs_s3/s3-outage.hpp"
#include "plugin/fs_s3/s3-sign.hpp"
#include "plugin/fs_s3/s3-verdict.hpp"
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

namespace replica::s3 {
namespace {

using Again = Verdict::Again;

// --- signatures: the examples of the Amazon S3 API Reference, "Authenticating Requests: Using the Authorization
// Header" ---

const Credentials example{"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", ""};
const std::string example_date = "20130524T000000Z";

std::string signature(Unsigned request) {
    request.payload_sha256 = to_hex(sha256(request.payload_sha256)); // the examples give the payload
    request.headers.emplace_back("host", "examplebucket.s3.amazonaws.com");
    request.headers.emplace_back("x-amz-content-sha256", request.payload_sha256);
    request.headers.emplace_back("x-amz-date", example_date);
    std::string value = Signer("us-east-1").authorization(request, example, example_date);
    return value.substr(value.find("Signature=") + 10);
}

TEST(S3Sign, GetOfARange) {
    EXPECT_EQ("f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
              signature({"GET", "/test.txt", {}, {{"range", "bytes=0-9"}}, ""}));
}

TEST(S3Sign, PutWithANameThatMustBeEncoded) {
    EXPECT_EQ("98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
              signature({"PUT",
                         "/test$file.text",
                         {},
                         {{"date", "Fri, 24 May 2013 00:00:00 GMT"}, {"x-amz-storage-class", "REDUCED_REDUNDANCY"}},
                         "Welcome to Amazon S3."}));
}

TEST(S3Sign, QueryWithoutAValue) {
    EXPECT_EQ("fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
              signature({"GET", "/", {{"lifecycle", ""}}, {}, ""}));
}

TEST(S3Sign, QueryIsSignedInOrder) {
    EXPECT_EQ("34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
              signature({"GET", "/", {{"prefix", "J"}, {"max-keys", "2"}}, {}, ""}));
}

TEST(S3Sign, TheHeaderNamesWhatIsSigned) {
    Unsigned request{"GET", "/", {}, {{"x-amz-date", example_date}, {"host", "h"}}, to_hex(sha256(""))};
    std::string value = Signer("us-east-1").authorization(request, example, example_date);
    EXPECT_TRUE(value.starts_with("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
                                  "SignedHeaders=host;x-amz-date,Signature="))
        << value;
    EXPECT_EQ(value.npos, value.find(example.secret_key));
}

TEST(S3Sign, AnotherDayOrSecretIsAnotherKey) {
    Unsigned request{"GET", "/", {}, {{"host", "h"}}, to_hex(sha256(""))};
    Signer kept("us-east-1");
    Credentials other = example;
    other.secret_key += "x";
    for (const auto &[credentials, date] :
         {std::pair(example, "20130524T000000Z"), std::pair(example, "20130525T000000Z"),
          std::pair(other, "20130525T000000Z"), std::pair(example, "20130524T000000Z")})
        EXPECT_EQ(Signer("us-east-1").authorization(request, credentials, date),
                  kept.authorization(request, credentials, date));
}

TEST(S3Sign, CanonicalHeadersAreTrimmed) {
    EXPECT_EQ("GET\n/a%20b/c\n\nhost:h\nx:a b\n\nhost;x\nHASH",
              canonical_request({"GET", "/a b/c", {}, {{"x", "  a   b "}, {"host", "h"}}, "HASH"}));
}

TEST(S3Sign, PercentEncodingGoesThereAndBack) {
    std::string all;
    for (int c = 1; c < 256; c++)
        all += static_cast<char>(c);
    EXPECT_EQ(all, decode_percent(encode_percent(all, false)));
    EXPECT_EQ("a%2Fb~-._", encode_percent("a/b~-._", false));
    EXPECT_EQ("%zz%4", decode_percent("%zz%4"));
}

TEST(S3Hash, KnownDigests) {
    EXPECT_EQ("900150983cd24fb0d6963f7d28e17f72", to_hex(md5("abc")));
    EXPECT_EQ("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", to_hex(sha256("abc")));
    EXPECT_EQ("kAFQmDzST7DWlj99KOF/cg==", base64(md5("abc")));
}

// --- settings ---

TEST(S3Location, AllThatCanBeSaid) {
    auto l = parse_location(
        "http://[::1]:9000/mail/bodies/a%20b/?region=eu-1&credentials=/etc/s3%26x&profile=p&style=virtual"
        "&connections=4&timeout=3&deadline=20&multipart=5242880");
    ASSERT_TRUE(l) << l.error().message;
    EXPECT_FALSE(l->tls);
    EXPECT_EQ("[::1]", l->host);
    EXPECT_EQ(9000, l->port);
    EXPECT_EQ("mail", l->bucket);
    EXPECT_EQ("bodies/a b/", l->prefix);
    EXPECT_EQ("/etc/s3&x", l->credentials_file);
    EXPECT_EQ("p", l->profile);
    EXPECT_TRUE(l->virtual_host);
    EXPECT_EQ(4U, l->connections);
    EXPECT_EQ(3000, l->timeout.count());
    EXPECT_EQ(20000, l->deadline.count());
    EXPECT_EQ(5242880U, l->multipart_bytes);
}

TEST(S3Location, NamesOfKeysAndHosts) {
    auto path = *parse_location("https://s3.example.com/mail/p?region=r");
    EXPECT_EQ("s3.example.com", path.host_header());
    EXPECT_EQ("p/a/b", path.key_of("a/b"));
    EXPECT_EQ("p/a/", path.folder_of("a"));
    EXPECT_EQ("p/a/", path.folder_of("/a/"));
    EXPECT_EQ("/mail/p/a", path.path_of("p/a"));
    EXPECT_EQ("/mail", path.path_of(""));
    auto host = *parse_location("https://s3.example.com:8443/mail?region=r&style=virtual");
    EXPECT_EQ("mail.s3.example.com:8443", host.host_header());
    EXPECT_EQ("/k", host.path_of("k"));
    EXPECT_EQ("", host.folder_of(""));
}

TEST(S3Location, WhatIsWrongIsNamedWithItsRemedy) {
    const std::pair<const char *, const char *> wrong[] = {
        {"", "does not begin with https://"},
        {"s3.example.com/mail?region=r", "does not begin with https://"},
        {"https://", "the host is missing"},
        {"https:///mail?region=r", "the host is missing"},
        {"https://h", "the bucket is missing"},
        {"https://h/?region=r", "the bucket is missing"},
        {"https://h/b", "region is missing: add ?region=NAME"},
        {"https://h:0/b?region=r", "the port"},
        {"https://h:99999/b?region=r", "the port"},
        {"https://user:secret@h/b?region=r", "no user or password"},
        {"https://h/b?region=r&style=dns", "style is path or virtual"},
        {"https://h/b?region=r&colour=red", "colour is not known"},
        {"https://h/b?region=r&secret", "has no value"},
        {"https://h/b?region=r&connections=0", "connections takes a number from 1"},
        {"https://h/b?region=r&multipart=1000", "multipart takes a number from 5242880"},
        {"https://h/b?region=r&timeout=20&deadline=10", "timeout is longer than deadline"},
        {"https://h/b?region=r&access_key=a", "go together"},
        {"https://h/b?region=r&access_key=a&secret_key=secret&credentials=/f", "exclude each other"},
        {"http://h/b?region=r&ca=/f", "ca is only for https"},
    };
    for (const auto &[text, sentence] : wrong) {
        auto l = parse_location(text);
        ASSERT_FALSE(l) << text;
        EXPECT_NE(std::string::npos, l.error().message.find(sentence)) << text << ": " << l.error().message;
        EXPECT_EQ(std::string::npos, l.error().message.find("secret@")) << text;
    }
}

TEST(S3Credentials, SectionsOfTheFile) {
    const char *text = "# ours\n[default]\naws_access_key_id = A\r\naws_secret_access_key=B/+=\n\n[other]\n"
                       "aws_access_key_id=C\naws_secret_access_key = D\naws_session_token= T\n";
    EXPECT_EQ((Credentials{"A", "B/+=", ""}), *parse_credentials(text, "default"));
    EXPECT_EQ((Credentials{"C", "D", "T"}), *parse_credentials(text, "other"));
    EXPECT_FALSE(parse_credentials(text, "third"));
    EXPECT_FALSE(parse_credentials("[default]\naws_access_key_id=A\n", "default"));
    EXPECT_FALSE(parse_credentials("", "default"));
}

TEST(S3Credentials, AChangedFileIsReadAgainAndErrorsHaveNoSecret) {
    std::string path = testing::TempDir() + "s3-credentials-" + std::to_string(getpid());
    Location location;
    location.credentials_file = path;
    CredentialSource source(location);
    EXPECT_NE(std::string::npos, source.current().error().message.find(path));
    const auto write = [&path](const std::string &text) {
        std::ofstream(path + ".new") << text;
        std::rename((path + ".new").c_str(), path.c_str());
    };
    write("[default]\naws_access_key_id=A\naws_secret_access_key=hidden\n");
    EXPECT_EQ("A", source.current()->access_key);
    write("[default]\naws_access_key_id=B\naws_secret_access_key=hidden\n");
    EXPECT_EQ("B", source.current()->access_key);
    write("[default]\naws_secret_access_key=hidden\n");
    ASSERT_FALSE(source.current());
    EXPECT_EQ(std::string::npos, source.current().error().message.find("hidden"));
    unlink(path.c_str());
}

// --- answers ---

TEST(S3Answer, AListWithMoreToCome) {
    auto page = parse_list(R"(<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><IsTruncated>true</IsTruncated>
<Contents><Key>a/1&amp;2</Key><Owner><ID>x</ID></Owner><Size>3</Size></Contents><Contents><Key>a/3</Key></Contents>
<CommonPrefixes><Prefix>a/b/</Prefix></CommonPrefixes><NextContinuationToken>T+/=</NextContinuationToken></ListBucketResult>)");
    ASSERT_TRUE(page);
    EXPECT_EQ((std::vector<std::string>{"a/1&2", "a/3"}), page->keys);
    EXPECT_EQ((std::vector<std::string>{"a/b/"}), page->folders);
    EXPECT_EQ("T+/=", page->next);
}

TEST(S3Answer, WhatIsNoListIsNone) {
    EXPECT_FALSE(parse_list(""));
    EXPECT_FALSE(parse_list("<html><body>Sign in</body></html>"));
    EXPECT_FALSE(parse_list("<ListBucketResult><Contents><Key>a</Key>")); // cut
    EXPECT_FALSE(parse_list("<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"));
    EXPECT_FALSE(parse_list(
        "<!DOCTYPE x [<!ENTITY a \"b\">]><ListBucketResult><Contents><Key>&a;</Key></Contents></ListBucketResult>"));
    std::string deep = "<ListBucketResult>";
    for (int i = 0; i < 100; i++)
        deep += "<x>";
    EXPECT_FALSE(parse_list(deep));
}

TEST(S3Answer, UploadsAndCopies) {
    EXPECT_EQ("ID", parse_upload_id(
                        "<InitiateMultipartUploadResult><UploadId>ID</UploadId></InitiateMultipartUploadResult>"));
    EXPECT_TRUE(is_answer("<CompleteMultipartUploadResult><ETag></ETag></CompleteMultipartUploadResult>",
                          "CompleteMultipartUploadResult")); // as Ceph says it
    EXPECT_FALSE(is_answer("<Error><Code>InternalError</Code></Error>", "CopyObjectResult"));
    EXPECT_EQ("&lt;&amp;&gt;&quot;", escape_xml("<&>\""));
}

// --- verdicts ---

const Where here{"https://h/mail/k", "mail", "eu-1", "the file /etc/s3", 1'000'000};

Verdict judged(unsigned status, const std::string &code, const std::string &more = "") {
    return judge_answer(
        {status, "Reason", "<Error><Code>" + code + "</Code><Message>words</Message>" + more + "</Error>", {}}, here);
}

TEST(S3Verdict, WhatTheCallerCanDo) {
    const std::tuple<unsigned, const char *, int, Again, const char *> cases[] = {
        {404, "NoSuchKey", ENOENT, Again::no, "there is no such object"},
        {404, "NoSuchBucket", EINVAL, Again::no, "there is no bucket mail"},
        {403, "AccessDenied", EACCES, Again::credentials, "the file /etc/s3"},
        {403, "InvalidAccessKeyId", EACCES, Again::credentials, "not known there"},
        {403, "SignatureDoesNotMatch", EACCES, Again::credentials, "the signature is wrong"},
        {400, "ExpiredToken", EACCES, Again::credentials, "has expired"},
        {403, "InvalidTokenId", EACCES, Again::credentials, "not valid"},
        {403, "RequestTimeTooSkewed", EACCES, Again::no, "set this host's clock"},
        {301, "PermanentRedirect", EINVAL, Again::no, "another region"},
        {503, "SlowDown", ETIMEDOUT, Again::later, "overloaded: SlowDown: words"},
        {429, "TooManyRequests", ETIMEDOUT, Again::later, "overloaded"},
        {500, "InternalError", ETIMEDOUT, Again::soon, "the server failed"},
        {507, "Whatever", ENOSPC, Again::no, "full"},
        {412, "PreconditionFailed", EEXIST, Again::no, "already"},
        {400, "BadDigest", EIO, Again::soon, "damaged on the way"},
        {400, "Strange", EIO, Again::no, "refused: Strange: words"},
    };
    for (const auto &[status, code, error, again, words] : cases) {
        Verdict verdict = judged(status, code);
        EXPECT_EQ(error, verdict.error) << code;
        EXPECT_EQ(again, verdict.again) << code;
        EXPECT_NE(std::string::npos, verdict.sentence.find(words)) << code << ": " << verdict.sentence;
        EXPECT_NE(std::string::npos, verdict.sentence.find("https://h/mail/k")) << code;
    }
}

TEST(S3Verdict, TheRegionThatTheServerNames) {
    Verdict verdict = judged(400, "AuthorizationHeaderMalformed", "<Region>us-east-1</Region>");
    EXPECT_EQ(EINVAL, verdict.error);
    EXPECT_NE(std::string::npos, verdict.sentence.find("region eu-1 is wrong: the server says us-east-1"))
        << verdict.sentence;
}

TEST(S3Verdict, AClockThatIsOffIsNamedWhateverTheServerCallsIt) {
    const std::string denied = "<Error><Code>AccessDenied</Code></Error>";
    Verdict verdict = judge_answer({403, "Forbidden", denied, here.now - 20 * 60}, here);
    EXPECT_NE(std::string::npos, verdict.sentence.find("this host is 20 minutes ahead of the server"))
        << verdict.sentence;
    verdict = judge_answer({403, "Forbidden", denied, here.now - 60}, here);
    EXPECT_EQ(std::string::npos, verdict.sentence.find("clock")) << verdict.sentence;
}

TEST(S3Verdict, AProxysPageIsNeverAMissingObject) {
    for (unsigned status : {302U, 404U, 403U, 200U}) {
        Verdict verdict = judge_answer({status, "Reason", "<html><body>Sign in</body></html>", {}}, here);
        EXPECT_EQ(EIO, verdict.error) << status;
        EXPECT_NE(std::string::npos, verdict.sentence.find("is a proxy")) << verdict.sentence;
    }
    EXPECT_EQ(EIO, judge_answer({404, "Not Found", "", {}}, here).error);
    EXPECT_EQ(Again::soon, judge_answer({502, "Bad Gateway", "<html/>", {}}, here).again);
    EXPECT_EQ(Again::later, judge_answer({503, "Unavailable", "<html/>", {}}, here).again);
}

TEST(S3Verdict, NoAnswerIsTriedAgainButForTls) {
    EXPECT_EQ(Again::soon, judge_silence(NoAnswer::lost, "reset", here).again);
    EXPECT_EQ(Again::soon,
              judge_silence(NoAnswer::not_connected, "connect(1.2.3.4:443) failed: Connection refused", here).again);
    Verdict tls = judge_silence(NoAnswer::not_connected, "SSL handshaking failed: certificate verify failed", here);
    EXPECT_EQ(Again::no, tls.again);
    EXPECT_NE(std::string::npos, tls.sentence.find("ca=FILE"));
}

TEST(S3Verdict, WhatLibHttpCountsIsLeftOut) {
    EXPECT_EQ(
        "https://h/mail/k: no answer in time: Timed out",
        judge_silence(NoAnswer::timed_out, "Timed out (Request queued 1.2 secs ago, not yet sent)", here).sentence);
}

TEST(S3Verdict, PausesGrowAreDrawnAndEnd) {
    EXPECT_EQ(25, pause_before(1, Again::soon, 0).count());
    EXPECT_EQ(50, pause_before(1, Again::soon, 25).count());
    EXPECT_EQ(100, pause_before(3, Again::soon, 0).count());
    EXPECT_EQ(250, pause_before(1, Again::later, 0).count());
    for (uint32_t drawn : {0U, 1U, 4'000'000'000U})
        EXPECT_LE(pause_before(1000, Again::later, drawn).count(), 5000);
}

TEST(S3Outage, TheNextOnesDoNotWaitAsLong) {
    using Advice = Outages::Advice;
    using namespace std::chrono_literals;
    Outages outages;
    const Outages::Time now{};
    std::string why;
    EXPECT_EQ(Advice::as_usual, outages.advice("h", now, &why));
    outages.gave_up("h", true, "refused", now);
    EXPECT_EQ(Advice::not_now, outages.advice("h", now + 4s, &why));
    EXPECT_EQ("refused", why);
    EXPECT_EQ(Advice::as_usual, outages.advice("other", now, &why));
    EXPECT_EQ(Advice::once, outages.advice("h", now + 5s, &why));
    outages.gave_up("h", false, "SlowDown", now); // it is there: no need to rest
    EXPECT_EQ(Advice::once, outages.advice("h", now, &why));
    outages.answered("h");
    EXPECT_EQ(Advice::as_usual, outages.advice("h", now, &why));
}

} // namespace
} // namespace replica::s3
