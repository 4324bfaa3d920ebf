//! The addresses that services bring along.

use std::fmt::Write;

use plimsoll_control::status::{VipState, VipStatus};

use crate::table::{Colour, Paint, count, span, visible};

pub(super) fn show(text: &mut String, vips: &[VipStatus], paint: Paint) {
    for vip in vips {
        let state = match vip.state {
            VipState::Added => paint.text(Colour::Green, "added"),
            VipState::WasThere => "was there before".to_owned(),
            VipState::Missing => paint.text(Colour::Red, "missing"),
        };
        let mut facts = vec![format!("{state} for {}", span(vip.since))];
        if vip.announced > 0 {
            facts.push(count(vip.announced, "announcement", "announcements"));
        }
        if vip.restored > 0 {
            facts.push(format!("put back {}", count(vip.restored, "time", "times")));
        }
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "vip {} at {}  {}",
            vip.address,
            visible(&vip.interface),
            facts.join(", "),
        );
        if !vip.reason.is_empty() {
            let reason = paint.text(Colour::Red, &visible(&vip.reason));
            let _ = writeln!(text, "  {reason}");
        }
    }
}
