package fedagg.sample;

import android.app.Activity;
import android.os.Bundle;
import android.os.Handler;
import android.os.Looper;
import android.widget.ScrollView;
import android.widget.TextView;
import fedagg.bridge.android.TrainingWorker;

/** Has the worker scheduled and shows its rounds, new ones within a second. */
public final class SampleActivity extends Activity {
  private static final long EVERY_MILLIS = 1000;

  private final Handler handler = new Handler(Looper.getMainLooper());
  private Rounds rounds;
  private TextView text;

  @Override
  protected void onCreate(Bundle saved) {
    super.onCreate(saved);
    rounds = new Rounds(getNoBackupFilesDir().toPath());
    text = new TextView(this);
    ScrollView scroll = new ScrollView(this);
    scroll.addView(text);
    setContentView(scroll);
    TrainingWorker.schedule(this, SampleWorker.class);
  }

  @Override
  protected void onResume() {
    super.onResume();
    show();
  }

  @Override
  protected void onPause() {
    handler.removeCallbacksAndMessages(null);
    super.onPause();
  }

  private void show() {
    text.setText("Trains while the phone charges on an unmetered network.\n\n" + rounds.text());
    handler.postDelayed(this::show, EVERY_MILLIS);
  }
}
