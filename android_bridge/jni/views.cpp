#include "views.h"

#include <cstdint>
#include <string>

#include "fedagg/error.h"

namespace fedagg::jni {
namespace {

constexpr std::size_t most_bytes = 0x7fffffff;  // a ByteBuffer has no more

}  // namespace

std::size_t count_of(jint value, const char* name) {
    if (value < 0) throw ArgumentError(std::string(name) + ": got " + std::to_string(value) + ", expected 0 or more");
    return static_cast<std::size_t>(value);
}

std::size_t area_of(std::size_t rows, std::size_t classes) {
    if (rows != 0 && classes > most_bytes / rows) {
        throw ArgumentError("got " + std::to_string(rows) + " rows of " + std::to_string(classes) +
                            ", more than a buffer can hold");
    }
    return rows * classes;
}

View view(JNIEnv* env, jobject buffer, jint at, std::size_t count, std::size_t size, const char* name) {
    if (buffer == nullptr) throw ArgumentError(std::string(name) + ": got null, expected a direct ByteBuffer");
    const std::size_t start = count_of(at, name), wanted = count * size;
    auto* const base = static_cast<unsigned char*>(env->GetDirectBufferAddress(buffer));
    const jlong capacity = env->GetDirectBufferCapacity(buffer);
    if (base == nullptr || capacity < 0) {
        throw ArgumentError(std::string(name) + ": got a buffer that is not direct; take ByteBuffer.allocateDirect");
    }
    const auto held = static_cast<std::size_t>(capacity);
    if (start > held || held - start < wanted) {
        throw ArgumentError(std::string(name) + ": got " + std::to_string(start > held ? 0 : held - start) +
                            " bytes, expected " + std::to_string(wanted));
    }
    unsigned char* const data = base + start;
    if (reinterpret_cast<std::uintptr_t>(data) % size != 0) {
        throw ArgumentError(std::string(name) + ": got an address between its elements, expected a multiple of " +
                            std::to_string(size) + " bytes; begin at another position of the buffer");
    }
    return {data, wanted, name};
}

View optional_view(JNIEnv* env, jobject buffer, jint at, std::size_t count, std::size_t size, const char* name) {
    if (buffer == nullptr) return {nullptr, 0, name};
    return view(env, buffer, at, count, size, name);
}

void require_apart(const View& out, std::initializer_list<View> inputs) {
    const auto begin = reinterpret_cast<std::uintptr_t>(out.data), end = begin + out.bytes;
    for (const View& input : inputs) {
        const auto other = reinterpret_cast<std::uintptr_t>(input.data);
        if (input.bytes != 0 && out.bytes != 0 && other < end && begin < other + input.bytes) {
            throw ArgumentError(std::string(out.name) + ": got memory that " + input.name +
                                " is in, expected memory of its own");
        }
    }
}

LogitsView logits_view(JNIEnv* env, jobject values, jint at, jint type, jobject scale, jint scale_at, std::size_t rows,
                       std::size_t classes, const char* name) {
    static constexpr struct {
        LogitType type;
        std::size_t size;
    } known[] = {{LogitType::f32, 4}, {LogitType::f16, 2}, {LogitType::i8, 1}};
    if (type < 0 || type > 2) {
        throw ArgumentError(std::string(name) + ": got logits of type " + std::to_string(type) + ", expected 0 to 2");
    }
    LogitsView found;
    found.values = view(env, values, at, area_of(rows, classes), known[type].size, name);
    if (known[type].type == LogitType::i8) found.scale = view(env, scale, scale_at, rows, sizeof(float), "row scales");
    found.logits = {found.values.data, known[type].type, found.scale.as<const float>()};
    return found;
}

}  // namespace fedagg::jni
