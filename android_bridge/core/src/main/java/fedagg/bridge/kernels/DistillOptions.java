package fedagg.bridge.kernels;

/**
 * The weights of the distillation loss (arXiv 2312.11489, eq. 2).
 *
 * <pre>
 * loss = ceWeight * mean CE(softmax(student), labels)
 *      + klWeight * mean KL between softmax(teacher / teacherTemperature) and softmax(student / temperature)
 * </pre>
 *
 * There is no hidden temperature^2: Hinton's form is klWeight = beta * temperature^2.
 */
public final class DistillOptions {
  final double ceWeight;
  final double klWeight;
  final double temperature;
  final double teacherTemperature;
  final boolean reverse;

  private DistillOptions(double ce, double kl, double temperature, double teacherTemperature, boolean reverse) {
    this.ceWeight = ce;
    this.klWeight = kl;
    this.temperature = temperature;
    this.teacherTemperature = teacherTemperature;
    this.reverse = reverse;
  }

  /** Cross-entropy alone. */
  public static DistillOptions crossEntropy(double weight) {
    return new DistillOptions(weight, 0, 1, 1, false);
  }

  /** Both terms; the divergence is KL(teacher || student). */
  public static DistillOptions of(double ceWeight, double klWeight, double temperature, double teacherTemperature) {
    return new DistillOptions(ceWeight, klWeight, temperature, teacherTemperature, false);
  }

  /** The same weights with KL(student || teacher). */
  public DistillOptions reversed() {
    return new DistillOptions(ceWeight, klWeight, temperature, teacherTemperature, true);
  }
}
