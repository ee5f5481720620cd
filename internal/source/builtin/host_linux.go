package builtin

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"github.com/prometheus/procfs/blockdevice"
	"golang.org/x/sys/unix"
)

// hostLimit is how many values one part of the host may give in one round.
const hostLimit = 5_000

// The devices and file systems that node_exporter leaves out by default as
// well, and the virtual interfaces of containers, which come and go.
var (
	ignoredDisks       = regexp.MustCompile(`^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$`)
	ignoredMounts      = regexp.MustCompile(`^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)`)
	ignoredFilesystems = regexp.MustCompile(`^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$`)
	ignoredInterfaces  = regexp.MustCompile(`^veth`)
	keptVMStat         = regexp.MustCompile(`^(oom_kill|pgpg|pswp|pg.*fault)`)
)

const sectorBytes = 512

// host reads this machine from /proc, /sys and its mounts.
type host struct {
	cfg   HostConfig
	proc  procfs.FS
	block blockdevice.FS
}

// hostCollectors returns one collector for each part of the host, so that one
// that fails does not take the others with it.
func hostCollectors(cfg HostConfig) ([]*collector, error) {
	proc, err := procfs.NewFS(cfg.ProcPath)
	if err != nil {
		return nil, fmt.Errorf("opening the host's proc file system: %w", err)
	}
	block, err := blockdevice.NewFS(cfg.ProcPath, cfg.SysPath)
	if err != nil {
		return nil, fmt.Errorf("opening the host's sys file system: %w", err)
	}
	h := &host{cfg: cfg, proc: proc, block: block}
	var all []*collector
	for _, part := range []struct {
		name string
		read func(*emitter) error
	}{
		{"cpu", h.cpu}, {"diskstats", h.disks}, {"filefd", h.filefd}, {"filesystem", h.filesystems},
		{"loadavg", h.load}, {"meminfo", h.memory}, {"netdev", h.network}, {"netstat", h.netstat},
		{"pressure", h.pressure}, {"sockstat", h.sockets}, {"stat", h.stat}, {"time", h.time},
		{"uname", h.uname}, {"vmstat", h.vmstat},
	} {
		all = append(all, newCollector("host/"+part.name, "host", jobHost, originHost, hostLimit, absentIsNothing(part.read)))
	}
	return all, nil
}

// absentIsNothing turns a missing file into a part that this system lacks.
func absentIsNothing(read func(*emitter) error) func(*emitter) error {
	return func(e *emitter) error {
		err := read(e)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTSUP) {
			return errNothingToRead
		}
		return err
	}
}

func (h *host) cpu(e *emitter) error {
	s, err := h.proc.Stat()
	if err != nil {
		return err
	}
	for n, c := range s.CPU {
		cpu := strconv.FormatInt(n, 10)
		for _, m := range []struct {
			mode    string
			seconds float64
		}{
			{"user", c.User}, {"nice", c.Nice}, {"system", c.System}, {"idle", c.Idle}, {"iowait", c.Iowait},
			{"irq", c.IRQ}, {"softirq", c.SoftIRQ}, {"steal", c.Steal},
		} {
			e.emit("node_cpu_seconds_total", m.seconds, "cpu", cpu, "mode", m.mode)
		}
		e.emit("node_cpu_guest_seconds_total", c.Guest, "cpu", cpu, "mode", "user")
		e.emit("node_cpu_guest_seconds_total", c.GuestNice, "cpu", cpu, "mode", "nice")
	}
	return nil
}

func (h *host) stat(e *emitter) error {
	s, err := h.proc.Stat()
	if err != nil {
		return err
	}
	e.emit("node_boot_time_seconds", float64(s.BootTime))
	e.emit("node_context_switches_total", float64(s.ContextSwitches))
	e.emit("node_forks_total", float64(s.ProcessCreated))
	e.emit("node_intr_total", float64(s.IRQTotal))
	e.emit("node_procs_running", float64(s.ProcessesRunning))
	e.emit("node_procs_blocked", float64(s.ProcessesBlocked))
	return nil
}

func (h *host) load(e *emitter) error {
	l, err := h.proc.LoadAvg()
	if err != nil {
		return err
	}
	e.emit("node_load1", l.Load1)
	e.emit("node_load5", l.Load5)
	e.emit("node_load15", l.Load15)
	return nil
}

// memory reads /proc/meminfo by its own names, so that it has what the kernel
// has.
func (h *host) memory(e *emitter) error {
	return h.lines("meminfo", func(fields []string) error {
		if len(fields) < 2 {
			return nil
		}
		v, err := strconv.ParseFloat(fields[1], 64)
		if err != nil {
			return fmt.Errorf("reading %s: %w", fields[0], err)
		}
		name := strings.TrimSuffix(fields[0], ":")
		name = strings.NewReplacer("(", "_", ")", "").Replace(name)
		if len(fields) == 3 && fields[2] == "kB" {
			v *= 1024
			name += "_bytes"
		}
		e.emit("node_memory_"+name, v)
		return nil
	})
}

func (h *host) vmstat(e *emitter) error {
	return h.lines("vmstat", func(fields []string) error {
		if len(fields) != 2 || !keptVMStat.MatchString(fields[0]) {
			return nil
		}
		v, err := strconv.ParseFloat(fields[1], 64)
		if err != nil {
			return fmt.Errorf("reading %s: %w", fields[0], err)
		}
		e.emit("node_vmstat_"+fields[0], v)
		return nil
	})
}

func (h *host) filefd(e *emitter) error {
	names := []string{"node_filefd_allocated", "", "node_filefd_maximum"}
	return h.lines("sys/fs/file-nr", func(fields []string) error {
		for i, field := range fields {
			if i >= len(names) || names[i] == "" {
				continue
			}
			v, err := strconv.ParseFloat(field, 64)
			if err != nil {
				return err
			}
			e.emit(names[i], v)
		}
		return nil
	})
}

// lines calls use with the fields of each line of a file below /proc.
func (h *host) lines(name string, use func(fields []string) error) error {
	f, err := os.Open(filepath.Join(h.cfg.ProcPath, name))
	if err != nil {
		return err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); ; {
		if !s.Scan() {
			return s.Err()
		}
		if err := use(strings.Fields(s.Text())); err != nil {
			return err
		}
	}
}

func (h *host) disks(e *emitter) error {
	all, err := h.block.ProcDiskstats()
	if err != nil {
		return err
	}
	for _, d := range all {
		if ignoredDisks.MatchString(d.DeviceName) {
			continue
		}
		device := d.DeviceName
		emit := func(name string, v float64) { e.emit("node_disk_"+name, v, "device", device) }
		emit("reads_completed_total", float64(d.ReadIOs))
		emit("reads_merged_total", float64(d.ReadMerges))
		emit("read_bytes_total", float64(d.ReadSectors)*sectorBytes)
		emit("read_time_seconds_total", float64(d.ReadTicks)/1000)
		emit("writes_completed_total", float64(d.WriteIOs))
		emit("writes_merged_total", float64(d.WriteMerges))
		emit("written_bytes_total", float64(d.WriteSectors)*sectorBytes)
		emit("write_time_seconds_total", float64(d.WriteTicks)/1000)
		emit("io_now", float64(d.IOsInProgress))
		emit("io_time_seconds_total", float64(d.IOsTotalTicks)/1000)
		emit("io_time_weighted_seconds_total", float64(d.WeightedIOTicks)/1000)
		if d.IoStatsCount >= 18 {
			emit("discards_completed_total", float64(d.DiscardIOs))
			emit("discards_merged_total", float64(d.DiscardMerges))
			emit("discarded_sectors_total", float64(d.DiscardSectors))
			emit("discard_time_seconds_total", float64(d.DiscardTicks)/1000)
		}
		if d.IoStatsCount >= 20 {
			emit("flush_requests_total", float64(d.FlushRequestsCompleted))
			emit("flush_requests_time_seconds_total", float64(d.TimeSpentFlushing)/1000)
		}
	}
	return nil
}

func (h *host) network(e *emitter) error {
	all, err := h.proc.NetDev()
	if err != nil {
		return err
	}
	for device, d := range all {
		if ignoredInterfaces.MatchString(device) {
			continue
		}
		for _, m := range []struct {
			name  string
			value uint64
		}{
			{"receive_bytes", d.RxBytes}, {"receive_packets", d.RxPackets}, {"receive_errs", d.RxErrors},
			{"receive_drop", d.RxDropped}, {"receive_fifo", d.RxFIFO}, {"receive_frame", d.RxFrame},
			{"receive_compressed", d.RxCompressed}, {"receive_multicast", d.RxMulticast},
			{"transmit_bytes", d.TxBytes}, {"transmit_packets", d.TxPackets}, {"transmit_errs", d.TxErrors},
			{"transmit_drop", d.TxDropped}, {"transmit_fifo", d.TxFIFO}, {"transmit_colls", d.TxCollisions},
			{"transmit_carrier", d.TxCarrier}, {"transmit_compressed", d.TxCompressed},
		} {
			e.emit("node_network_"+m.name+"_total", float64(m.value), "device", device)
		}
	}
	return nil
}

func (h *host) pressure(e *emitter) error {
	read := 0
	for _, r := range []struct{ resource, waiting, stalled string }{
		{"cpu", "cpu_waiting", ""}, {"io", "io_waiting", "io_stalled"},
		{"memory", "memory_waiting", "memory_stalled"}, {"irq", "", "irq_stalled"},
	} {
		s, err := h.proc.PSIStatsForResource(r.resource)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTSUP) {
			continue // an older kernel, or one without this resource
		}
		if err != nil {
			return err
		}
		if r.waiting != "" && s.Some != nil {
			e.emit("node_pressure_"+r.waiting+"_seconds_total", float64(s.Some.Total)/1e6)
		}
		if r.stalled != "" && s.Full != nil {
			e.emit("node_pressure_"+r.stalled+"_seconds_total", float64(s.Full.Total)/1e6)
		}
		read++
	}
	if read == 0 {
		return errNothingToRead
	}
	return nil
}

func (h *host) sockets(e *emitter) error {
	s, err := h.proc.NetSockstat()
	if err != nil {
		return err
	}
	if s.Used != nil {
		e.emit("node_sockstat_sockets_used", float64(*s.Used))
	}
	for _, p := range s.Protocols {
		name := "node_sockstat_" + p.Protocol + "_"
		e.emit(name+"inuse", float64(p.InUse))
		for _, v := range []struct {
			name  string
			value *int
		}{{"orphan", p.Orphan}, {"tw", p.TW}, {"alloc", p.Alloc}, {"mem", p.Mem}, {"memory", p.Memory}} {
			if v.value != nil {
				e.emit(name+v.name, float64(*v.value))
			}
		}
		if p.Mem != nil {
			e.emit(name+"mem_bytes", float64(*p.Mem*os.Getpagesize()))
		}
	}
	return nil
}

func (h *host) time(e *emitter) error {
	e.emit("node_time_seconds", float64(time.Now().UnixNano())/1e9)
	return nil
}

func (h *host) uname(e *emitter) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	e.emit("node_uname_info", 1,
		"sysname", unix.ByteSliceToString(u.Sysname[:]), "release", unix.ByteSliceToString(u.Release[:]),
		"version", unix.ByteSliceToString(u.Version[:]), "machine", unix.ByteSliceToString(u.Machine[:]),
		"nodename", unix.ByteSliceToString(u.Nodename[:]), "domainname", unix.ByteSliceToString(u.Domainname[:]))
	return nil
}
