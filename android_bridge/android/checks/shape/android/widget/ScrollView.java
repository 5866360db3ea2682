package android.widget;

import android.content.Context;
import android.view.View;

/** Not Android's: see Context. */
public class ScrollView extends View {
  public View child;

  public ScrollView(Context context) {}

  public void addView(View view) {
    child = view;
  }
}
