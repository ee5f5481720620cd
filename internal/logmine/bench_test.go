package logmine

import (
	"fmt"
	"testing"
)

func BenchmarkAdd(b *testing.B) {
	forms := []string{
		"Received block blk_%d of size %d from /10.251.%d.84:50010",
		"10.11.10.%d \"GET /v2/54fadb41/servers/detail HTTP/1.1\" status: %d len: %d time: 0.2477829",
		"ready=true,policy=%d,wakefulness=%d,mode=false,manual=%d,auto=-1",
		"authentication failure; logname= uid=%d euid=%d tty=ssh ruser= rhost=10.0.0.%d user=root",
	}
	var lines [][]byte
	size := 0
	for i := range 4096 {
		l := fmt.Appendf(nil, forms[i%len(forms)], i*7919, i%599, i%251)
		lines = append(lines, l)
		size += len(l)
	}
	m := newMiner(b, Config{})
	b.SetBytes(int64(size / len(lines)))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		m.Add(lines[i&4095])
		i++
	}
}

func BenchmarkAddUnseen(b *testing.B) {
	m := newMiner(b, Config{})
	line := []byte("login of aaaaaaaa was refused by the gate after 3 tries")
	b.ReportAllocs()
	for b.Loop() {
		for k := 9; ; k++ {
			if line[k]++; line[k] <= 'z' {
				break
			}
			line[k] = 'a'
		}
		m.Add(line)
	}
}
