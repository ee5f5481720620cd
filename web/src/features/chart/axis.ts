const minutes = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const seconds = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const days = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });

/** Writes the ticks of the time axis, `distance` seconds apart, in the reader's zone; midnight reads as its day. */
export function formatTimeTicks(ticks: readonly number[], distance: number): string[] {
  return ticks.map((t) => {
    const date = new Date(t * 1000);
    if (distance >= 86400 || (date.getHours() === 0 && date.getMinutes() === 0 && date.getSeconds() === 0)) return days.format(date);
    return distance < 60 ? seconds.format(date) : minutes.format(date);
  });
}
