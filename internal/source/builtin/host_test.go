package builtin

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"aiops/internal/model"
)

// readHost reads every part of a host once: names with their label names, and
// what failed.
func readHost(t *testing.T, cfg HostConfig) (names map[string]string, values map[string]float64, failed map[string]error) {
	t.Helper()
	cfg = Config{Host: cfg}.withDefaults().Host
	parts, err := hostCollectors(cfg)
	if err != nil {
		t.Fatal(err)
	}
	names, values, failed = map[string]string{}, map[string]float64{}, map[string]error{}
	for _, c := range parts {
		r := c.collect("test", 1)
		if r.err != nil {
			failed[c.name] = r.err
		}
		for _, p := range r.points {
			m := p.labels.Map()
			name := m["__name__"]
			delete(m, "instance")
			delete(m, "job")
			values[model.LabelsFromMap(m).Key()] = p.value
			delete(m, "__name__")
			names[name] = strings.Join(slices.Sorted(maps.Keys(m)), ",")
		}
	}
	return names, values, failed
}

// What is read from this host has node_exporter's names and labels.
func TestHostNamesAreNodeExporters(t *testing.T) {
	t.Parallel()
	bin, err := exec.LookPath("prometheus-node-exporter")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("node_exporter is not installed: prometheus-node-exporter is not on PATH")
		}
		t.Skip("node_exporter is not installed: prometheus-node-exporter is not on PATH")
	}
	names, _, failed := readHost(t, HostConfig{})
	if len(failed) > 2 {
		t.Errorf("these parts of the host fail: %v", failed)
	}
	for _, needed := range []string{
		"node_cpu_seconds_total", "node_memory_MemAvailable_bytes", "node_memory_MemTotal_bytes", "node_load1", "node_boot_time_seconds", "node_time_seconds",
		"node_context_switches_total", "node_procs_running", "node_procs_blocked", "node_filefd_allocated", "node_vmstat_pgmajfault", "node_network_receive_bytes_total",
	} {
		if _, ok := names[needed]; !ok {
			t.Errorf("%s is missing", needed)
		}
	}
	theirs := nodeExporterNames(t, bin)
	var foreign []string
	for name, labels := range names {
		if name == "node_filesystem_device_error" && theirs[name] == "device,device_error,fstype,mountpoint" {
			continue // newer ones have the reason as a label
		}
		// A newer kernel has counters that an older node_exporter does not know.
		newer := strings.HasPrefix(name, "node_memory_") || strings.HasPrefix(name, "node_pressure_irq") || strings.HasPrefix(name, "node_netstat_TcpExt_TCP")
		if want, ok := theirs[name]; !ok && !newer || ok && want != labels {
			foreign = append(foreign, fmt.Sprintf("%s{%s}, theirs {%s}", name, labels, want))
		}
	}
	slices.Sort(foreign)
	if len(foreign) > 0 {
		t.Errorf("names that node_exporter does not have:\n%s", strings.Join(foreign, "\n"))
	}
}

var metricLine = regexp.MustCompile(`^(node_[a-zA-Z0-9_]+)(?:\{(.*)\})? `)

func nodeExporterNames(t *testing.T, bin string) map[string]string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	cmd := exec.Command(bin, "--web.listen-address="+address, "--web.disable-exporter-metrics")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	names := map[string]string{}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	eventually(t, func() string {
		resp, err := client.Get("http://" + address + "/metrics")
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		labelNames := regexp.MustCompile(`([a-zA-Z_]+)="`)
		for s := bufio.NewScanner(resp.Body); s.Scan(); {
			m := metricLine.FindStringSubmatch(s.Text())
			if m == nil {
				continue
			}
			var labels []string
			for _, l := range labelNames.FindAllStringSubmatch(m[2], -1) {
				labels = append(labels, l[1])
			}
			slices.Sort(labels)
			names[m[1]] = strings.Join(labels, ",")
		}
		if len(names) == 0 {
			return "node_exporter shows no metrics"
		}
		return ""
	})
	return names
}

// fakeHost writes files below a directory, as /proc has them.
func fakeHost(t *testing.T, files map[string]string) HostConfig {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, "proc", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "sys"), 0o755); err != nil {
		t.Fatal(err)
	}
	return HostConfig{ProcPath: filepath.Join(dir, "proc"), SysPath: filepath.Join(dir, "sys"), RootPath: dir}
}

func TestHostValues(t *testing.T) {
	t.Parallel()
	cfg := fakeHost(t, map[string]string{
		"stat":            "cpu  100 0 200 300 400 0 0 0 0 0\ncpu0 100 0 200 300 400 0 0 0 0 0\nintr 7\nctxt 8\nbtime 9\nprocesses 10\nprocs_running 11\nprocs_blocked 12\n",
		"meminfo":         "MemTotal:  1000 kB\nMemAvailable:  400 kB\nActive(anon):  3 kB\nHugePages_Total:  2\n",
		"loadavg":         "1.50 2.50 3.50 1/2 3\n",
		"vmstat":          "nr_free_pages 1\npgfault 77\npgmajfault 5\noom_kill 1\n",
		"sys/fs/file-nr":  "100\t0\t5000\n",
		"diskstats":       "   8       0 sda 10 11 12 13 14 15 16 17 18 19 20\n   7       0 loop0 1 1 1 1 1 1 1 1 1 1 1\n",
		"net/dev":         "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\nveth1: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n",
		"net/snmp":        "Tcp: RtoAlgorithm CurrEstab RetransSegs\nTcp: 1 42 43\nUdp: InErrors\nUdp: 44\n",
		"net/netstat":     "TcpExt: SyncookiesSent ListenDrops\nTcpExt: 1 45\n",
		"pressure/cpu":    "some avg10=0 avg60=0 avg300=0 total=1500000\nfull avg10=0 avg60=0 avg300=0 total=0\n",
		"pressure/io":     "some avg10=0 avg60=0 avg300=0 total=2500000\nfull avg10=0 avg60=0 avg300=0 total=500000\n",
		"pressure/memory": "some avg10=0 avg60=0 avg300=0 total=3500000\nfull avg10=0 avg60=0 avg300=0 total=1\n",
		"net/sockstat":    "sockets: used 290\nTCP: inuse 4 orphan 5 tw 6 alloc 7 mem 1\n",
		"1/mounts":        "/dev/sda1 / ext4 rw 0 0\nproc /proc proc rw 0 0\n/dev/sdb1 /no\\040such ext4 ro 0 0\noverlay /var/x overlay rw 0 0\n",
	})
	_, values, failed := readHost(t, cfg)
	for name, err := range failed {
		t.Errorf("%s: %v", name, err)
	}
	for series, want := range map[string]float64{
		`{__name__="node_cpu_seconds_total", cpu="0", mode="idle"}`:                                           3,
		`{__name__="node_cpu_seconds_total", cpu="0", mode="iowait"}`:                                         4,
		`{__name__="node_context_switches_total"}`:                                                            8,
		`{__name__="node_boot_time_seconds"}`:                                                                 9,
		`{__name__="node_forks_total"}`:                                                                       10,
		`{__name__="node_procs_running"}`:                                                                     11,
		`{__name__="node_procs_blocked"}`:                                                                     12,
		`{__name__="node_intr_total"}`:                                                                        7,
		`{__name__="node_memory_MemTotal_bytes"}`:                                                             1024000,
		`{__name__="node_memory_Active_anon_bytes"}`:                                                          3072,
		`{__name__="node_memory_HugePages_Total"}`:                                                            2,
		`{__name__="node_load5"}`:                                                                             2.5,
		`{__name__="node_vmstat_pgfault"}`:                                                                    77,
		`{__name__="node_vmstat_oom_kill"}`:                                                                   1,
		`{__name__="node_filefd_allocated"}`:                                                                  100,
		`{__name__="node_filefd_maximum"}`:                                                                    5000,
		`{__name__="node_disk_read_bytes_total", device="sda"}`:                                               12 * 512,
		`{__name__="node_disk_written_bytes_total", device="sda"}`:                                            16 * 512,
		`{__name__="node_disk_io_time_seconds_total", device="sda"}`:                                          0.019,
		`{__name__="node_network_receive_bytes_total", device="eth0"}`:                                        1,
		`{__name__="node_network_transmit_drop_total", device="eth0"}`:                                        12,
		`{__name__="node_netstat_Tcp_CurrEstab"}`:                                                             42,
		`{__name__="node_netstat_Udp_InErrors"}`:                                                              44,
		`{__name__="node_netstat_TcpExt_ListenDrops"}`:                                                        45,
		`{__name__="node_pressure_cpu_waiting_seconds_total"}`:                                                1.5,
		`{__name__="node_pressure_io_stalled_seconds_total"}`:                                                 0.5,
		`{__name__="node_sockstat_TCP_inuse"}`:                                                                4,
		`{__name__="node_sockstat_sockets_used"}`:                                                             290,
		`{__name__="node_filesystem_device_error", device="/dev/sda1", fstype="ext4", mountpoint="/"}`:        0,
		`{__name__="node_filesystem_device_error", device="/dev/sdb1", fstype="ext4", mountpoint="/no such"}`: 1,
	} {
		if got, ok := values[series]; !ok || got != want {
			t.Errorf("%s = %v, %v, want %v", series, got, ok, want)
		}
	}
	for series := range values {
		for _, unwanted := range []string{"loop0", "veth1", "nr_free_pages", "/proc", "/var/x", "RtoAlgorithm"} {
			if strings.Contains(series, unwanted) {
				t.Errorf("%s should be left out", series)
			}
		}
	}
}

// One part that is broken does not take the others with it, and a missing one is
// no fault.
func TestHostPartsAreIsolated(t *testing.T) {
	t.Parallel()
	cfg := fakeHost(t, map[string]string{"loadavg": "nonsense\n", "meminfo": "MemTotal: 1 kB\n"})
	s := setup(t, func(c *Config) { c.Host = cfg })
	s.round(context.Background(), time.Now().Truncate(5*time.Second).UnixMilli(), 1, make(chan reading, len(s.collectors)))
	list, err := s.Collectors(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]model.CollectorState{}
	for _, c := range list {
		states[c.Name] = c.State
	}
	for name, want := range map[string]model.CollectorState{
		"host/loadavg": model.CollectorDown, "host/meminfo": model.CollectorUp, "host/time": model.CollectorUp,
		"host/pressure": model.CollectorDisabled, "host/vmstat": model.CollectorDisabled,
	} {
		if states[name] != want {
			t.Errorf("%s is %s, want %s", name, states[name], want)
		}
	}
}
