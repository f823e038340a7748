"""What a person watches: numbered steps with times, one line of progress that is written over, tables. Plain when it is no terminal."""

import shutil
import sys
import time


class Screen:
    def __init__(self, steps, first=1, out=sys.stdout):
        self.steps, self.number, self.out = steps, first - 1, out
        self.live = out.isatty()
        self.started = self.step_started = time.monotonic()
        self.last_progress = 0.0
        self.dirty = False

    def paint(self, code, text):
        return f"\033[{code}m{text}\033[0m" if self.live else text

    def write(self, text):
        self.out.write(text)
        self.out.flush()

    def step(self, title):
        self.number += 1
        self.step_started = time.monotonic()
        self.write(f"\n{self.paint('1;36', f'[{self.number}/{self.steps}]')} {self.paint('1', title)}\n")

    def elapsed(self):
        return time.monotonic() - self.step_started

    def note(self, text):
        self.clear()
        self.write(f"      {text}\n")

    def good(self, text):
        self.clear()
        self.write(f"   {self.paint('32', 'ok')} {text} {self.paint('2', f'({self.elapsed():.1f} s)')}\n")

    def bad(self, text):
        self.clear()
        self.write(f"   {self.paint('1;31', 'NO')} {text}\n")

    def clear(self):
        if self.dirty:
            self.write("\r\033[K")
            self.dirty = False

    def progress(self, done, total, text=""):
        """A bar on a terminal, a line every five seconds elsewhere."""
        now = time.monotonic()
        if now - self.last_progress < (0.1 if self.live else 5) and done < total:
            return
        self.last_progress = now
        share = done / total if total else 1.0
        if self.live:
            width = max(10, min(40, shutil.get_terminal_size().columns - 60))
            full = int(share * width)
            bar = self.paint("36", "█" * full) + self.paint("2", "░" * (width - full))
            self.write(f"\r\033[K      {bar} {done}/{total} {text}")
            self.dirty = True
        elif done < total:
            self.write(f"      {done}/{total} {text}\n")

    def table(self, rows, title=None):
        """rows: [(name, value, good or None)]; the last line of the demo is one of these."""
        self.clear()
        width = max(len(name) for name, _, _ in rows)
        values = max(len(str(value)) for _, value, _ in rows)
        line = "─" * (width + values + 9)
        if title:
            self.write(f"\n   {self.paint('1', title)}\n")
        self.write(f"   {line}\n")
        for name, value, good in rows:
            mark = {None: "", True: self.paint("32", "ok"), False: self.paint("1;31", "NO")}[good]
            self.write(f"   {name:<{width}}   {value!s:>{values}}   {mark}\n")
        self.write(f"   {line}\n")
