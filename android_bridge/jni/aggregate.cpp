#include "fedagg/aggregate.h"

#include <string>
#include <vector>

#include "errors.h"
#include "fedagg/error.h"
#include "natives.h"
#include "views.h"

namespace fedagg::jni {
namespace {

constexpr jsize place_size = 3;  // of a teacher: where its values begin, their type, where its scales begin

struct Teachers {
    std::vector<Logits> logits;
    std::vector<View> views;
};

Teachers read_teachers(JNIEnv* env, jobjectArray values, jobjectArray scales, jintArray places, std::size_t rows,
                       std::size_t classes) {
    if (values == nullptr || scales == nullptr || places == nullptr) throw ArgumentError("teachers: got null");
    const jsize count = env->GetArrayLength(values);
    if (env->GetArrayLength(scales) != count || env->GetArrayLength(places) / place_size != count) {
        throw ArgumentError("teachers: got arrays of different lengths");
    }
    Teachers found;
    for (jsize k = 0; k < count; ++k) {
        jint place[place_size];
        env->GetIntArrayRegion(places, k * place_size, place_size, place);
        jobject const buffer = env->GetObjectArrayElement(values, k);
        jobject const scale = env->GetObjectArrayElement(scales, k);
        const LogitsView one = logits_view(env, buffer, place[0], place[1], scale, place[2], rows, classes, "teacher");
        found.logits.push_back(one.logits);
        found.views.push_back(one.values);
        found.views.push_back(one.scale);
        env->DeleteLocalRef(buffer);
        env->DeleteLocalRef(scale);
    }
    return found;
}

Aggregation method_of(jint number) {
    static constexpr Aggregation methods[] = {Aggregation::mean_logits, Aggregation::mean_probabilities,
                                              Aggregation::entropy_weighted, Aggregation::trimmed_mean, Aggregation::median};
    if (number < 0 || number > 4) {
        throw ArgumentError("method: got " + std::to_string(number) + ", expected 0 to 4");
    }
    return methods[number];
}

}  // namespace

void aggregate(JNIEnv* env, jclass, jlong handle, jint row_count, jint class_count, jobjectArray teachers,
               jobjectArray scales, jintArray places, jobject weights, jint weights_at, jobject sample_weights,
               jint sample_weights_at, jobject mask, jint mask_at, jint method, jdouble trim, jobject out, jint out_at) {
    guarded(env, [&] {
        const std::size_t rows = count_of(row_count, "rows"), classes = count_of(class_count, "classes");
        const Teachers given = read_teachers(env, teachers, scales, places, rows, classes);
        const std::size_t count = given.logits.size(), cells = area_of(count, rows);
        const View w = optional_view(env, weights, weights_at, count, sizeof(float), "weights");
        const View sw = optional_view(env, sample_weights, sample_weights_at, cells, sizeof(float), "sample weights");
        const View m = optional_view(env, mask, mask_at, cells, 1, "mask");
        const View to = view(env, out, out_at, area_of(rows, classes), sizeof(float), "out");
        require_apart(to, {w, sw, m});
        for (const View& teacher : given.views) require_apart(to, {teacher});

        AggregateInput input;
        input.teachers = given.logits.data();
        input.teacher_count = count;
        input.rows = rows;
        input.classes = classes;
        input.teacher_weights = w.as<const float>();
        input.sample_weights = sw.as<const float>();
        input.mask = m.as<const std::uint8_t>();
        aggregate_logits(input, method_of(method), trim, core_of(handle).threads, to.as<float>());
    });
}

void confidence(JNIEnv* env, jclass, jlong handle, jint row_count, jint class_count, jobject logits, jint at, jint type,
                jobject scale, jint scale_at, jobject out, jint out_at) {
    guarded(env, [&] {
        const std::size_t rows = count_of(row_count, "rows"), classes = count_of(class_count, "classes");
        core_of(handle);
        const LogitsView z = logits_view(env, logits, at, type, scale, scale_at, rows, classes, "logits");
        const View to = view(env, out, out_at, rows, sizeof(float), "out");
        require_apart(to, {z.values, z.scale});
        fedagg::confidence(z.logits, rows, classes, to.as<float>());
    });
}

}  // namespace fedagg::jni
