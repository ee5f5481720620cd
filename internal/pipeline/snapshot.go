package pipeline

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"sort"
	"time"

	"aiops/internal/detect"
	"aiops/internal/model"
)

// A snapshot is a header part and parts of at most seriesPerPart series each,
// in the order of the hashes of their keys; see docs/pipeline.md.
const (
	snapshotMagic   = "AIPS"
	snapshotVersion = 5
	oldestSnapshot  = 1 // the oldest format that is read
	kindHeader      = 'H'
	kindSeries      = 'S'
	seriesPerPart   = 1000

	frameHead = len(snapshotMagic) + 2
	frameTail = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// snapshotFault says why a part of a snapshot cannot be used. What it held is
// learned again from history.
type snapshotFault struct{ problem string }

func (f *snapshotFault) Error() string {
	return "reading a snapshot: " + f.problem + "; what it held is learned again from history"
}

// header is the first part of a snapshot: all that is not about one series.
type header struct {
	fingerprint  string
	step         int64
	modelVersion int64
	watermark    int64
	began        int64
	active       int
	quota        quotaChange
	samples      int64
	past         script
	planned      []tuning
	parts        []partInfo
	drift        drift
	agreement    model.Agreement // of a shadow
	exceed       detect.Exceedances
}

type partInfo struct {
	firstHash uint64
	series    int
}

// partOf returns which part holds the series with this hash, counted from 0
// behind the header; -1: none does.
func (h *header) partOf(hash uint64) int {
	return sort.Search(len(h.parts), func(i int) bool { return h.parts[i].firstHash > hash }) - 1
}

// snapshot encodes the whole state of c. The parts share nothing with it.
func (c *core) snapshot(now time.Time) model.Snapshot {
	list := c.sorted()
	h := header{fingerprint: c.def.fingerprint, step: c.def.step, modelVersion: c.modelVersion, watermark: c.watermark,
		began: c.began, active: c.active, quota: quotaChange{series: int32(c.quota), threshold: c.threshold},
		samples: c.samples, past: c.past, planned: c.planned, drift: c.drift, agreement: c.agreement, exceed: c.exceed}
	parts := [][]byte{nil}
	for len(list) > 0 {
		n := min(len(list), seriesPerPart)
		for n < len(list) && list[n].hash == list[n-1].hash {
			n++ // equal hashes stay together, so that a hash finds its part
		}
		h.parts = append(h.parts, partInfo{firstHash: list[0].hash, series: n})
		parts = append(parts, encodePart(len(h.parts)-1, list[:n]))
		list = list[n:]
	}
	parts[0] = h.encode()
	return model.Snapshot{DetectorID: c.def.detector.ID, DetectorVersion: c.def.detector.Version, ModelVersion: c.modelVersion,
		Watermark: c.watermark, Parts: parts, Series: c.live, CreatedAt: now}
}

// sorted returns the series in the order of a snapshot.
func (c *core) sorted() []*series {
	list := make([]*series, 0, c.live)
	for _, s := range c.series {
		if s != nil {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b *series) int {
		if a.hash != b.hash {
			return cmp.Compare(a.hash, b.hash)
		}
		return cmp.Compare(a.key, b.key)
	})
	return list
}

// restoreCore makes a core from a snapshot that belongs to def. lost counts
// the series of parts that cannot be read or do not fit; they are not in the
// core. An error means that nothing can be restored.
func restoreCore(def *definition, snap model.Snapshot) (c *core, lost int, fault error) {
	h, err := readHeader(snap, def)
	if err != nil {
		return nil, 0, err
	}
	c = h.core(def)
	for i, info := range h.parts {
		list, err := c.decodePart(i, snap.Parts[i+1], nil)
		lost += info.series - len(list)
		if err != nil && fault == nil {
			fault = err
		}
		for _, s := range list {
			c.place(s)
			c.count(s)
		}
	}
	return c, lost, fault
}

// restoreSeries makes a core of one series from a snapshot; nil when the
// snapshot does not hold it.
func restoreSeries(def *definition, snap model.Snapshot, key string) (*core, error) {
	h, err := readHeader(snap, def)
	if err != nil {
		return nil, err
	}
	hash := hashKey([]byte(key))
	at := h.partOf(hash)
	if at < 0 {
		return nil, nil
	}
	c := h.core(def)
	list, err := c.decodePart(at, snap.Parts[at+1], func(k []byte) bool { return string(k) == key })
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, nil
	}
	c.place(list[0])
	return c, nil
}

func readHeader(snap model.Snapshot, def *definition) (*header, error) {
	if len(snap.Parts) == 0 {
		return nil, &snapshotFault{"it has no parts"}
	}
	h, err := decodeHeader(snap.Parts[0])
	switch {
	case err != nil:
		return nil, err
	case h.fingerprint != def.fingerprint || h.step != def.step:
		return nil, &snapshotFault{"it belongs to another definition"}
	case len(h.parts) != len(snap.Parts)-1:
		return nil, &snapshotFault{"parts are missing"}
	}
	return h, nil
}

// core makes an empty core with what the header says. Gates and hold times are
// those that were in force then.
func (h *header) core(def *definition) *core {
	if n := len(h.past.tunings); n > 0 {
		def = def.tuned(h.past.tunings[n-1])
	}
	c := newCore(def, h.modelVersion, h.watermark)
	c.began, c.active, c.samples, c.past, c.planned = h.began, h.active, h.samples, h.past, h.planned
	c.quota, c.threshold = int(h.quota.series), h.quota.threshold
	c.drift, c.agreement, c.exceed = h.drift, h.agreement, h.exceed
	return c
}

// count adds a restored series to the counts of the last step.
func (c *core) count(s *series) {
	if s.missed <= c.def.activeSteps && s.learning {
		c.learning++
	}
	if s.episode != nil && s.episode.open() {
		c.open++
	}
}

func (h *header) encode() []byte {
	w := newFrame(nil, kindHeader)
	w.text(h.fingerprint)
	w.i64(h.step)
	w.i64(h.modelVersion)
	w.i64(h.watermark)
	w.i64(h.began)
	w.uint(uint64(h.active))
	w.uint(uint64(h.quota.series))
	w.f64(h.quota.threshold)
	w.i64(h.samples)
	w.uint(uint64(len(h.past.quotas)))
	for _, q := range h.past.quotas {
		w.i64(q.from)
		w.uint(uint64(q.series))
		w.f64(q.threshold)
	}
	w.tunings(h.past.tunings)
	w.tunings(h.planned)
	w.uint(uint64(len(h.past.skipped)))
	for _, s := range h.past.skipped {
		w.i64(s.from)
		w.i64(s.to)
	}
	w.uint(uint64(len(h.past.versions)))
	for _, v := range h.past.versions {
		w.i64(v.from)
		w.i64(v.version)
	}
	w.uint(uint64(len(h.parts)))
	for _, p := range h.parts {
		w.u64(p.firstHash)
		w.uint(uint64(p.series))
	}
	w.events(h.past.events)
	w.drift(h.drift)
	for _, n := range []int64{h.agreement.Samples, h.agreement.Both, h.agreement.OnlyLive, h.agreement.OnlyShadow} {
		w.i64(n)
	}
	w.bytes(h.exceed.Append(nil))
	w.uint(uint64(len(h.past.deep)))
	for _, d := range h.past.deep {
		w.i64(d.from)
		w.i64(d.version)
		w.u64(d.hash)
		w.bool(d.on)
	}
	return w.close()
}

func decodeHeader(b []byte) (*header, error) {
	r := openFrame(b, kindHeader)
	h := &header{fingerprint: r.text(), step: r.i64(), modelVersion: r.i64(), watermark: r.i64(), began: r.i64()}
	h.active = int(r.uint(math.MaxInt32))
	h.quota.series = int32(r.uint(math.MaxInt32))
	h.quota.threshold = r.f64()
	h.samples = r.i64()
	for range r.count(maxQuotaChanges, 17) {
		h.past.quotas = append(h.past.quotas, quotaChange{r.i64(), int32(r.uint(math.MaxInt32)), r.f64()})
	}
	h.past.tunings, h.planned = r.tunings(), r.tunings()
	for range r.count(maxSkippedSpans, 16) {
		h.past.skipped = append(h.past.skipped, span{r.i64(), r.i64()})
	}
	for range r.count(maxVersions, 16) {
		h.past.versions = append(h.past.versions, versionChange{r.i64(), r.i64()})
	}
	for range r.count(1<<20, 9) {
		h.parts = append(h.parts, partInfo{r.u64(), int(r.uint(math.MaxInt32))})
	}
	if r.version >= 2 {
		h.past.events, h.drift = r.events(), r.drift()
		h.agreement = model.Agreement{Samples: r.i64(), Both: r.i64(), OnlyLive: r.i64(), OnlyShadow: r.i64()}
	}
	if r.version >= 3 {
		var ok bool
		if h.exceed, ok = detect.ReadExceedances(r.bytes()); !ok {
			r.fail("the record of exceedances cannot be read")
		}
	}
	if r.version >= 4 {
		if r.version == 4 {
			r.i64() // memory that was granted for promoted models, which is a matter of the definition now
		}
		for range r.count(maxDeepChanges, 25) {
			h.past.deep = append(h.past.deep, deepChange{r.i64(), r.i64(), r.u64(), r.bool()})
		}
	}
	if h.step <= 0 {
		r.fail("the header contradicts itself")
	}
	return h, r.close()
}

func encodePart(index int, list []*series) []byte {
	w := newFrame(make([]byte, 0, len(list)*512), kindSeries)
	w.uint(uint64(index))
	w.uint(uint64(len(list)))
	for _, s := range list {
		w.text(s.key)
		w.i64(s.since)
		w.i64(s.seenAt)
		w.i64(s.lastT)
		w.f64(s.lastV)
		w.point(s.last)
		w.uint(uint64(s.missed))
		w.bool(s.learning)
		w.i64(s.tried)
		cluster := s.cluster.Bytes()
		w.u64(binary.LittleEndian.Uint64(cluster[:]))
		w.episode(s.episode)
		at := len(w.b)
		w.b = append(w.b, 0, 0, 0, 0)
		w.b = s.model.AppendSnapshot(w.b)
		binary.LittleEndian.PutUint32(w.b[at:], uint32(len(w.b)-at-4))
	}
	return w.close()
}

// decodePart returns the series of a part that want (nil: all) selects. On an
// error it returns those that could be read when the part itself is sound,
// else none.
func (c *core) decodePart(index int, b []byte, want func(key []byte) bool) ([]*series, error) {
	r := openFrame(b, kindSeries)
	if at := r.uint(1 << 20); r.err == nil && int(at) != index {
		r.fail(fmt.Sprintf("part %d is in the place of part %d", at, index))
	}
	n := r.count(math.MaxInt32, 100)
	var list []*series
	var fault error
	for range n {
		key := r.bytes()
		s := &series{since: r.i64(), seenAt: r.i64(), lastT: r.i64(), lastV: r.f64(), last: r.point()}
		s.missed = int32(r.uint(math.MaxInt32))
		s.learning = r.bool()
		if r.version >= 4 {
			s.tried = r.i64()
		}
		if r.version >= 3 {
			var cluster [8]byte
			binary.LittleEndian.PutUint64(cluster[:], r.u64())
			s.cluster = detect.ClusterOf(cluster)
		}
		s.episode = r.episode()
		state := r.bytes32()
		if r.err != nil {
			break
		}
		if want != nil && !want(key) {
			continue
		}
		s.key, s.hash = string(key), hashKey(key)
		s.model = c.newModel(s.key, s.hash)
		if err := s.model.Restore(state); err != nil {
			fault = err
			continue
		}
		s.model.SetThreshold(c.threshold)
		list = append(list, s)
	}
	if err := r.close(); err != nil {
		return nil, err
	}
	for _, s := range list {
		if s.episode != nil && s.episode.proof != nil {
			c.proofBytes += s.episode.proof.bytes()
		}
	}
	return list, fault
}
