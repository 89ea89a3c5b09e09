"""The daemon behind lib/desktop.mjs: org.freedesktop.Notifications on the session bus.

Writes a line of JSON for each notification, and clicks those whose numbers it reads.
"""

import json
import sys

import dbus
import dbus.service
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib

NAME = "org.freedesktop.Notifications"


def tell(**what):
    print(json.dumps(what), flush=True)


class Daemon(dbus.service.Object):
    last = 0

    @dbus.service.method(NAME, in_signature="", out_signature="as")
    def GetCapabilities(self):
        return ["actions", "body", "persistence"]

    @dbus.service.method(NAME, in_signature="", out_signature="ssss")
    def GetServerInformation(self):
        return ("flametree-test", "flametree", "1", "1.2")

    @dbus.service.method(NAME, in_signature="susssasa{sv}i", out_signature="u")
    def Notify(self, app, replaces, icon, summary, body, actions, hints, timeout):
        Daemon.last = replaces or Daemon.last + 1
        tell(event="notify", id=int(Daemon.last), title=str(summary), body=str(body))
        return dbus.UInt32(Daemon.last)

    @dbus.service.method(NAME, in_signature="u", out_signature="")
    def CloseNotification(self, number):
        tell(event="closed", id=int(number))
        self.NotificationClosed(number, 3)

    @dbus.service.signal(NAME, signature="uu")
    def NotificationClosed(self, number, reason):
        pass

    @dbus.service.signal(NAME, signature="us")
    def ActionInvoked(self, number, key):
        pass

    @dbus.service.signal(NAME, signature="us")
    def ActivationToken(self, number, token):
        pass


def main():
    DBusGMainLoop(set_as_default=True)
    bus = dbus.SessionBus()
    _name = dbus.service.BusName(NAME, bus)
    daemon = Daemon(bus, "/org/freedesktop/Notifications")
    loop = GLib.MainLoop()

    def read(source, condition):
        line = source.readline()
        if not line:
            loop.quit()
            return False
        number = dbus.UInt32(int(line))
        daemon.ActivationToken(number, "test")
        daemon.ActionInvoked(number, "default")
        tell(event="clicked", id=int(number))
        return True

    GLib.io_add_watch(sys.stdin, GLib.IO_IN | GLib.IO_HUP, read)
    tell(event="ready")
    loop.run()


main()
