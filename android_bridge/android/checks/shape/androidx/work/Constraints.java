package androidx.work;

/** Not androidx's: see WorkManager of this folder. */
public final class Constraints {
  private boolean charging;
  private NetworkType network = NetworkType.NOT_REQUIRED;

  private Constraints() {}

  public boolean requiresCharging() {
    return charging;
  }

  public NetworkType getRequiredNetworkType() {
    return network;
  }

  public static final class Builder {
    private final Constraints made = new Constraints();

    public Builder setRequiresCharging(boolean value) {
      made.charging = value;
      return this;
    }

    public Builder setRequiredNetworkType(NetworkType value) {
      made.network = value;
      return this;
    }

    public Constraints build() {
      return made;
    }
  }
}
