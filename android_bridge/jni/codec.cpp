#include "fedagg/codec.h"

#include "errors.h"
#include "fedagg/error.h"
#include "natives.h"
#include "views.h"

namespace fedagg::jni {
namespace {

// low and step of every channel, as both directions of the affine code need them
struct Affine {
    Affine(JNIEnv* env, jobject low_buffer, jint low_at, jobject step_buffer, jint step_at, std::size_t channels)
        : low(view(env, low_buffer, low_at, channels, sizeof(float), "low")),
          step(view(env, step_buffer, step_at, channels, sizeof(float), "step")) {}
    View low, step;
};

}  // namespace

void to_f16(JNIEnv* env, jclass, jint count, jobject x, jint at, jobject out, jint out_at) {
    guarded(env, [&] {
        const std::size_t n = count_of(count, "count");
        const View from = view(env, x, at, n, 4, "x"), to = view(env, out, out_at, n, 2, "out");
        require_apart(to, {from});
        fedagg::to_f16(from.as<const float>(), n, to.as<std::uint16_t>());
    });
}

void from_f16(JNIEnv* env, jclass, jint count, jobject x, jint at, jobject out, jint out_at) {
    guarded(env, [&] {
        const std::size_t n = count_of(count, "count");
        const View from = view(env, x, at, n, 2, "x"), to = view(env, out, out_at, n, 4, "out");
        require_apart(to, {from});
        fedagg::from_f16(from.as<const std::uint16_t>(), n, to.as<float>());
    });
}

void quantise(JNIEnv* env, jclass, jint row_count, jint class_count, jobject x, jint at, jobject out, jint out_at,
              jobject scale, jint scale_at) {
    guarded(env, [&] {
        const std::size_t rows = count_of(row_count, "rows"), classes = count_of(class_count, "classes");
        const std::size_t area = area_of(rows, classes);
        const View from = view(env, x, at, area, 4, "x"), to = view(env, out, out_at, area, 1, "out");
        const View scales = view(env, scale, scale_at, rows, 4, "row scales");
        require_apart(to, {from, scales});
        require_apart(scales, {from});
        quantise_logits(from.as<const float>(), rows, classes, to.as<std::int8_t>(), scales.as<float>());
    });
}

void dequantise(JNIEnv* env, jclass, jint row_count, jint class_count, jobject x, jint at, jobject scale, jint scale_at,
                jobject out, jint out_at) {
    guarded(env, [&] {
        const std::size_t rows = count_of(row_count, "rows"), classes = count_of(class_count, "classes");
        const std::size_t area = area_of(rows, classes);
        const View from = view(env, x, at, area, 1, "x"), scales = view(env, scale, scale_at, rows, 4, "row scales");
        const View to = view(env, out, out_at, area, 4, "out");
        require_apart(to, {from, scales});
        dequantise_logits(from.as<const std::int8_t>(), scales.as<const float>(), rows, classes, to.as<float>());
    });
}

void encode_affine(JNIEnv* env, jclass, jint row_count, jint channel_count, jobject x, jint at, jobject low, jint low_at,
                   jobject step, jint step_at, jobject bits, jint bits_at, jobject out, jint out_at) {
    guarded(env, [&] {
        const std::size_t rows = count_of(row_count, "rows"), channels = count_of(channel_count, "channels");
        const std::size_t area = area_of(rows, channels);
        const Affine map(env, low, low_at, step, step_at, channels);
        const View from = view(env, x, at, area, 4, "x"), to = view(env, out, out_at, area, 1, "out");
        const View b = optional_view(env, bits, bits_at, channels, 1, "bits");
        require_apart(to, {from, map.low, map.step, b});
        fedagg::encode_affine(from.as<const float>(), map.low.as<const float>(), map.step.as<const float>(),
                              b.as<const std::uint8_t>(), rows, channels, to.as<std::uint8_t>());
    });
}

void decode_affine(JNIEnv* env, jclass, jint row_count, jint channel_count, jobject x, jint at, jobject low, jint low_at,
                   jobject step, jint step_at, jobject out, jint out_at) {
    guarded(env, [&] {
        const std::size_t rows = count_of(row_count, "rows"), channels = count_of(channel_count, "channels");
        const std::size_t area = area_of(rows, channels);
        const Affine map(env, low, low_at, step, step_at, channels);
        const View from = view(env, x, at, area, 1, "x"), to = view(env, out, out_at, area, 4, "out");
        require_apart(to, {from, map.low, map.step});
        fedagg::decode_affine(from.as<const std::uint8_t>(), map.low.as<const float>(), map.step.as<const float>(), rows,
                              channels, to.as<float>());
    });
}

jint packed_bytes(JNIEnv* env, jclass, jint channel_count, jobject bits, jint bits_at) {
    return guarded(env, jint{0}, [&] {
        const std::size_t channels = count_of(channel_count, "channels");
        const View b = view(env, bits, bits_at, channels, 1, "bits");
        return static_cast<jint>(fedagg::packed_bytes(b.as<const std::uint8_t>(), channels));
    });
}

void pack_bits(JNIEnv* env, jclass, jint row_count, jint channel_count, jobject codes, jint at, jobject bits, jint bits_at,
               jobject out, jint out_at) {
    guarded(env, [&] {
        const std::size_t rows = count_of(row_count, "rows"), channels = count_of(channel_count, "channels");
        const View b = view(env, bits, bits_at, channels, 1, "bits");
        const View from = view(env, codes, at, area_of(rows, channels), 1, "codes");
        const std::size_t row = fedagg::packed_bytes(b.as<const std::uint8_t>(), channels);
        const View to = view(env, out, out_at, area_of(rows, row), 1, "out");
        require_apart(to, {from, b});
        fedagg::pack_bits(from.as<const std::uint8_t>(), b.as<const std::uint8_t>(), rows, channels, to.as<std::uint8_t>());
    });
}

void unpack_bits(JNIEnv* env, jclass, jint row_count, jint channel_count, jobject packed, jint at, jobject bits, jint bits_at,
                 jobject out, jint out_at) {
    guarded(env, [&] {
        const std::size_t rows = count_of(row_count, "rows"), channels = count_of(channel_count, "channels");
        const View b = view(env, bits, bits_at, channels, 1, "bits");
        const std::size_t row = fedagg::packed_bytes(b.as<const std::uint8_t>(), channels);
        const View from = view(env, packed, at, area_of(rows, row), 1, "packed");
        const View to = view(env, out, out_at, area_of(rows, channels), 1, "out");
        require_apart(to, {from, b});
        fedagg::unpack_bits(from.as<const std::uint8_t>(), b.as<const std::uint8_t>(), rows, channels,
                            to.as<std::uint8_t>());
    });
}

void encode_top_k(JNIEnv* env, jclass, jint row_count, jint class_count, jint k_count, jobject x, jint at, jobject kept,
                  jint kept_at, jobject values, jint values_at, jobject rest, jint rest_at) {
    guarded(env, [&] {
        const std::size_t rows = count_of(row_count, "rows"), classes = count_of(class_count, "classes");
        const std::size_t k = count_of(k_count, "k"), area = area_of(rows, k);
        const View from = view(env, x, at, area_of(rows, classes), 4, "x");
        const View ids = view(env, kept, kept_at, area, 2, "kept classes"), top = view(env, values, values_at, area, 4, "values");
        const View left = view(env, rest, rest_at, rows, 4, "rest");
        require_apart(ids, {from, top, left});
        require_apart(top, {from, left});
        require_apart(left, {from});
        fedagg::encode_top_k(from.as<const float>(), rows, classes, k, ids.as<std::uint16_t>(), top.as<float>(),
                             left.as<float>());
    });
}

void decode_top_k(JNIEnv* env, jclass, jint row_count, jint class_count, jint k_count, jobject kept, jint kept_at,
                  jobject values, jint values_at, jobject rest, jint rest_at, jobject out, jint out_at) {
    guarded(env, [&] {
        const std::size_t rows = count_of(row_count, "rows"), classes = count_of(class_count, "classes");
        const std::size_t k = count_of(k_count, "k"), area = area_of(rows, k);
        const View ids = view(env, kept, kept_at, area, 2, "kept classes"), top = view(env, values, values_at, area, 4, "values");
        const View left = view(env, rest, rest_at, rows, 4, "rest");
        const View to = view(env, out, out_at, area_of(rows, classes), 4, "out");
        require_apart(to, {ids, top, left});
        fedagg::decode_top_k(ids.as<const std::uint16_t>(), top.as<const float>(), left.as<const float>(), rows, classes, k,
                             to.as<float>());
    });
}

}  // namespace fedagg::jni
