package logmine

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"
)

func FuzzAdd(f *testing.F) {
	for _, s := range []string{
		"a b c\na b d\na b e\na b f\na b g\na b h",
		"x=1 y=2\nx=true y=null\nx=\"a b\" y='c'",
		"\x00\x1b[31m\xff\xfe\u202e\n\n   \n",
		"1@2@3@4:5:6::7//8..9--10\n`a'`b'(c)(d)\n{<*>}<*>[<*>][<*>]",
		"a:1 b:2 c:3 d:4\n1, 2, 3, 4\n1,2,3\n10.0.0.1:80 10.0.0.2:81",
		"http://a/b?c=d C:\\e\\f \\\\?\\g /h/i. J\nFri Jul 01 08:16:53 PDT 2005",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := newMiner(t, Config{MaxTemplates: 16, MaxLineBytes: 256, MaxTokens: 16})
		lines := bytes.Split(data, []byte("\n"))
		for i, l := range lines {
			id := m.Add(l)
			checkTemplate(t, m, id)
			switch i % 7 {
			case 3:
				_ = m.Split(id, len(l)%3)
			case 4:
				all := m.Templates()
				if _, err := m.Merge(id, all[len(l)%len(all)].ID); err != nil {
					t.Fatalf("merging: %v", err)
				}
			case 5:
				_ = m.Pin(id, len(l)%2 == 0)
			}
		}
		again := newMiner(t, m.cfg)
		if err := again.Restore(m.AppendSnapshot(nil)); err != nil {
			t.Fatalf("restoring: %v", err)
		}
		upgraded := newMiner(t, m.cfg)
		if err := upgraded.restore(m.AppendSnapshot(nil), true); err != nil {
			t.Fatalf("upgrading: %v", err)
		}
		for _, l := range lines {
			if a, b := m.Add(l), again.Add(l); a != b {
				t.Fatalf("%q has the id %s, and %s after restoring", l, a, b)
			}
			checkTemplate(t, upgraded, upgraded.Add(l))
		}
	})
}

func FuzzRestore(f *testing.F) {
	m := newMiner(f, Config{})
	for _, l := range []string{"a b c 1", "a b c 2, 3, 4", "x=1 y=z", "user bob7 in", "user alice in"} {
		m.Add([]byte(l))
	}
	whole := m.AppendSnapshot(nil)
	body := whole[len(snapshotMagic)+1 : len(whole)-4]
	f.Add(body)
	f.Add(body[:len(body)/2])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		b := append([]byte(snapshotMagic), snapshotVersion)
		b = append(b, body...)
		b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
		m := newMiner(t, Config{})
		if m.Restore(b) != nil {
			return
		}
		for _, l := range []string{"a b c 1", "a b c 2, 3, 4", "x=1 y=z", "user carol in"} {
			m.Add([]byte(l))
		}
		m.Templates()
		m.AppendSnapshot(nil)
	})
}
