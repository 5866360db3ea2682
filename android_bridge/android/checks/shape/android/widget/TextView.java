package android.widget;

import android.content.Context;
import android.view.View;

/** Not Android's: see Context. */
public class TextView extends View {
  private CharSequence text = "";

  public TextView(Context context) {}

  public final void setText(CharSequence value) {
    text = value;
  }

  public CharSequence getText() {
    return text;
  }
}
