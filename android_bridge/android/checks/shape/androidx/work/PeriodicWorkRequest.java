package androidx.work;

import java.util.concurrent.TimeUnit;

/** Not androidx's: see WorkManager of this folder. */
public final class PeriodicWorkRequest {
  public final Class<? extends ListenableWorker> worker;
  public final long minutes;
  public Constraints constraints;

  private PeriodicWorkRequest(Class<? extends ListenableWorker> worker, long minutes) {
    this.worker = worker;
    this.minutes = minutes;
  }

  public static final class Builder {
    private final PeriodicWorkRequest made;

    public Builder(Class<? extends ListenableWorker> worker, long interval, TimeUnit unit) {
      made = new PeriodicWorkRequest(worker, unit.toMinutes(interval));
    }

    public Builder setConstraints(Constraints value) {
      made.constraints = value;
      return this;
    }

    public PeriodicWorkRequest build() {
      return made;
    }
  }
}
