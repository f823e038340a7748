#include "plugin/fs_s3/fs-s3.hpp"
#include "plugin/fs_s3/s3-answer.hpp"

namespace replica::s3 {

namespace {

constexpr uint64_t parts_max = 10'000; // S3's own limit

struct Upload {
    Client &client;
    const std::string &key;
    std::string id;
};

Outcome unreadable(const Upload &upload, const char *what) {
    Outcome outcome;
    outcome.error = EIO;
    outcome.sentence =
        upload.client.location().name_of(upload.key) + ": the server's answer to " + what + " cannot be read";
    return outcome;
}

Outcome begin(Upload &upload, Pairs headers) {
    std::erase_if(headers, [](const auto &header) { return header.first == "if-none-match"; }); // it is for the end
    Outcome outcome = upload.client.run(
        {.method = "POST", .key = upload.key, .query = {{"uploads", ""}}, .headers = std::move(headers)});
    if (outcome.error != 0) return outcome;
    upload.id = parse_upload_id(outcome.text);
    return upload.id.empty() ? unreadable(upload, "the begin of a multipart upload") : Outcome{};
}

Outcome send_part(const Upload &upload, unsigned number, Payload &part, std::string *list) {
    hash_payload(part);
    Outcome outcome = upload.client.run({.method = "PUT",
                                         .key = upload.key,
                                         .query = {{"partNumber", std::to_string(number)}, {"uploadId", upload.id}},
                                         .payload = &part,
                                         .wants_etag = true});
    if (outcome.error == 0)
        *list += "<Part><PartNumber>" + std::to_string(number) + "</PartNumber><ETag>" +
                 escape_xml(outcome.header("etag")) + "</ETag></Part>";
    return outcome;
}

Outcome complete(const Upload &upload, const std::string &list, const Pairs &headers) {
    std::string xml = "<CompleteMultipartUpload>" + list + "</CompleteMultipartUpload>";
    Stream input(i_stream_create_from_data(xml.data(), xml.size()));
    Payload body{.input = input.get(), .size = xml.size(), .md5 = md5(xml), .sha256 = sha256(xml)};
    Operation operation{.method = "POST", .key = upload.key, .query = {{"uploadId", upload.id}}, .payload = &body};
    for (const auto &header : headers)
        if (header.first == "if-none-match") operation.headers.push_back(header);
    Outcome outcome = upload.client.run(std::move(operation));
    if (outcome.error == 0 && !is_answer(outcome.text, "CompleteMultipartUploadResult"))
        return unreadable(upload, "the end of a multipart upload");
    return outcome;
}

} // namespace

Outcome upload_in_parts(S3File &file, struct istream *body, uint64_t size, Pairs headers) {
    Upload upload{client_of(file), file.key, {}};
    Outcome outcome = begin(upload, headers);
    if (outcome.error != 0) return outcome;

    uint64_t part_size = std::max(upload.client.location().multipart_bytes, (size + parts_max - 1) / parts_max);
    std::string list;
    unsigned number = 1;
    for (uint64_t offset = 0; offset < size && outcome.error == 0; offset += part_size, number++) {
        Payload part{.input = body, .offset = offset, .size = std::min(part_size, size - offset)};
        outcome = send_part(upload, number, part, &list);
    }
    if (outcome.error == 0) outcome = complete(upload, list, headers);
    // Parts that nothing refers to cost money for ever. Where this fails, too, the bucket's lifecycle rule takes them.
    if (outcome.error != 0 && outcome.code != "NoSuchUpload")
        (void)upload.client.run({.method = "DELETE", .key = file.key, .query = {{"uploadId", upload.id}}});
    return outcome;
}

} // namespace replica::s3
