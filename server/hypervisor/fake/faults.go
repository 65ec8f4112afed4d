package fake

// Method names a method of hypervisor.Driver, for faults and gates.
type Method string

// The methods.
const (
	MethodHost          Method = "Host"
	MethodDefine        Method = "Define"
	MethodAdjust        Method = "Adjust"
	MethodUndefine      Method = "Undefine"
	MethodStart         Method = "Start"
	MethodShutdown      Method = "Shutdown"
	MethodKill          Method = "Kill"
	MethodReboot        Method = "Reboot"
	MethodReset         Method = "Reset"
	MethodGet           Method = "Get"
	MethodList          Method = "List"
	MethodWatch         Method = "Watch"
	MethodOpenSerial    Method = "OpenSerial"
	MethodOpenDisplay   Method = "OpenDisplay"
	MethodEnsureNetwork Method = "EnsureNetwork"
	MethodRemoveNetwork Method = "RemoveNetwork"
	MethodSetLeases     Method = "SetLeases"

	MethodAttachDisk     Method = "AttachDisk"
	MethodDetachDisk     Method = "DetachDisk"
	MethodResizeDisk     Method = "ResizeDisk"
	MethodMoveDisk       Method = "MoveDisk"
	MethodAbandonMove    Method = "AbandonMove"
	MethodRedirectDisks  Method = "RedirectDisks"
	MethodMergeDisks     Method = "MergeDisks"
	MethodMonitorCommand Method = "MonitorCommand"

	// Those of a migration: Finish is that of the destination.
	MethodDepart   Method = "Depart"
	MethodArrive   Method = "Arrive"
	MethodPerform  Method = "Perform"
	MethodConnect  Method = "Connect"
	MethodFinish   Method = "Finish"
	MethodContinue Method = "Continue"
)

// FailNext makes the next call of a method fail with err, before it does anything. Errors given one after the other hit one call each.
func (h *Host) FailNext(m Method, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults[m] = append(h.faults[m], err)
}

// Hold makes calls of a method wait, before they do anything, until release is called or their context ends.
// A method is held once at a time.
func (h *Host) Hold(m Method) (release func()) {
	gate := make(chan struct{})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gates[m] = gate
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.gates[m] == gate {
			delete(h.gates, m)
			close(gate)
		}
	}
}
