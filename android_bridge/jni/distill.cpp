#include "fedagg/distill.h"

#include "errors.h"
#include "fedagg/error.h"
#include "natives.h"
#include "views.h"

namespace fedagg::jni {

void distill(JNIEnv* env, jclass, jlong handle, jint row_count, jint class_count, jobject student, jint student_at,
             jobject teacher, jint teacher_at, jint teacher_type, jobject scale, jint scale_at, jobject labels, jint labels_at,
             jobject mask, jint mask_at, jobject weights, jint weights_at, jobject gradient, jint gradient_at,
             jdouble ce_weight, jdouble kl_weight, jdouble temperature, jdouble teacher_temperature, jboolean reverse,
             jdoubleArray loss) {
    guarded(env, [&] {
        const std::size_t rows = count_of(row_count, "rows"), classes = count_of(class_count, "classes");
        const std::size_t area = area_of(rows, classes);
        const View z = view(env, student, student_at, area, sizeof(float), "student");
        LogitsView t;
        if (teacher != nullptr) {
            t = logits_view(env, teacher, teacher_at, teacher_type, scale, scale_at, rows, classes, "teacher");
        }
        const View y = optional_view(env, labels, labels_at, rows, sizeof(jlong), "labels");
        const View m = optional_view(env, mask, mask_at, rows, 1, "mask");
        const View w = optional_view(env, weights, weights_at, rows, sizeof(float), "row weights");
        const View out = view(env, gradient, gradient_at, area, sizeof(float), "gradient");
        require_apart(out, {t.values, t.scale, y, m, w});
        if (out.data != z.data) require_apart(out, {z});
        if (loss == nullptr || env->GetArrayLength(loss) != 3) throw ArgumentError("loss: expected an array of 3");

        DistillInput<float> input;
        input.student = z.as<const float>();
        input.teacher = t.logits;
        input.labels = y.as<const std::int64_t>();
        input.mask = m.as<const std::uint8_t>();
        input.row_weights = w.as<const float>();
        input.rows = rows;
        input.classes = classes;
        DistillOptions options;
        options.ce_weight = ce_weight;
        options.kl_weight = kl_weight;
        options.temperature = temperature;
        options.teacher_temperature = teacher_temperature;
        options.divergence = reverse != JNI_FALSE ? Divergence::reverse : Divergence::forward;
        options.threads = core_of(handle).threads;
        const DistillLoss found = distill_loss(input, options, out.as<float>());
        const jdouble numbers[] = {found.loss, found.ce, found.kl};
        env->SetDoubleArrayRegion(loss, 0, 3, numbers);
    });
}

}  // namespace fedagg::jni
