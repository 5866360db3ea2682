package android.os;

import java.util.ArrayList;
import java.util.List;

/** Not Android's: see Context. What is posted waits to be seen. */
public class Handler {
  public static final List<Runnable> POSTED = new ArrayList<>();

  public Handler(Looper looper) {}

  public final boolean postDelayed(Runnable work, long millis) {
    return POSTED.add(work);
  }

  public final void removeCallbacksAndMessages(Object token) {
    POSTED.clear();
  }
}
