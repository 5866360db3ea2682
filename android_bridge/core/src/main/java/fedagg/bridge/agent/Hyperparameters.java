package fedagg.bridge.agent;

import fedagg.bridge.kernels.DistillOptions;

/** How a device trains; symbols as in the paper: T temperature, beta distillation weight, gamma bridge weight. */
public final class Hyperparameters {
  public final float learningRate;
  public final float momentum;
  public final float weightDecay;
  public final int batchSize;
  public final int epochs;
  public final double temperature;
  public final double beta;
  public final double gamma;
  /** KL(student || teacher) in place of KL(teacher || student). */
  public final boolean reverse;
  /** T on the teacher's logits alone, and no T^2 before the term: eq. 2 as printed. False: Hinton's form. */
  public final boolean temperatureOnTeacher;

  private Hyperparameters(Builder from) {
    learningRate = from.learningRate;
    momentum = from.momentum;
    weightDecay = from.weightDecay;
    batchSize = from.batchSize;
    epochs = from.epochs;
    temperature = from.temperature;
    beta = from.beta;
    gamma = from.gamma;
    reverse = from.reverse;
    temperatureOnTeacher = from.temperatureOnTeacher;
  }

  public static Builder builder() {
    return new Builder();
  }

  /** T on the student's logits inside the divergence. */
  public double studentTemperature() {
    return temperatureOnTeacher ? 1 : temperature;
  }

  /** The weight of the bare divergence inside L_nl (eq. 2). */
  public double klWeight() {
    return beta * (temperatureOnTeacher ? 1 : temperature * temperature);
  }

  /** The bridge term of a leaf's loss (eq. 4), times gamma; without a teacher its cross-entropy alone. */
  DistillOptions bridgeLoss(boolean taught) {
    double kl = taught && beta > 0 ? gamma * klWeight() : 0;
    DistillOptions options = DistillOptions.of(gamma, kl, studentTemperature(), temperature);
    return reverse ? options.reversed() : options;
  }

  /** The defaults are those of `[training]` in docs/config.md. */
  public static final class Builder {
    private float learningRate = 0.02f;
    private float momentum = 0.9f;
    private float weightDecay;
    private int batchSize = 8;
    private int epochs = 1;
    private double temperature = 3;
    private double beta = 1;
    private double gamma = 1;
    private boolean reverse;
    private boolean temperatureOnTeacher;

    private Builder() {}

    public Builder learningRate(double value) {
      learningRate = (float) value;
      return this;
    }

    public Builder momentum(double value) {
      momentum = (float) value;
      return this;
    }

    public Builder weightDecay(double value) {
      weightDecay = (float) value;
      return this;
    }

    public Builder batchSize(int value) {
      batchSize = value;
      return this;
    }

    public Builder epochs(int value) {
      epochs = value;
      return this;
    }

    public Builder temperature(double value) {
      temperature = value;
      return this;
    }

    public Builder beta(double value) {
      beta = value;
      return this;
    }

    public Builder gamma(double value) {
      gamma = value;
      return this;
    }

    public Builder reverse(boolean value) {
      reverse = value;
      return this;
    }

    public Builder temperatureOnTeacher(boolean value) {
      temperatureOnTeacher = value;
      return this;
    }

    /** Throws IllegalArgumentException for a number that cannot be used. */
    public Hyperparameters build() {
      boolean fits =
          learningRate > 0 && momentum >= 0 && momentum < 1 && weightDecay >= 0 && batchSize > 0 && epochs > 0
              && temperature > 0 && beta >= 0 && gamma >= 0;
      if (!fits) {
        throw new IllegalArgumentException(
            "hyperparameters: expected learningRate, batchSize, epochs and temperature above 0, momentum in [0, 1), "
                + "weightDecay, beta and gamma 0 or more");
      }
      return new Hyperparameters(this);
    }
  }
}
