#!/usr/bin/env python3
"""The camera in software IPyCam, which others wrote: it is found by WS-Discovery and speaks ONVIF. Prints "listening" once it does."""
import sys
import threading

from ipycam import CameraConfig, IPCamera

host, user, password = sys.argv[1:]
camera = IPCamera(CameraConfig(name="Virtual Camera", local_ip=host, username=user, password=password, main_fps=10, sub_fps=10))
camera.start()
print("listening", flush=True)
threading.Event().wait()
